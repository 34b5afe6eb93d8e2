"""One seed for every random draw, so that no generator's state is ever stored. Used by the loop and the stages."""

from __future__ import annotations

import hashlib


def seed_of(*where: int | str) -> int:
    """A 63-bit seed for the draw at this place, e.g. (run seed, stage, step, micro-step, rank).

    Equal places give equal seeds on every machine; neighbouring places give unrelated ones.
    """
    digest = hashlib.blake2b(repr(where).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
