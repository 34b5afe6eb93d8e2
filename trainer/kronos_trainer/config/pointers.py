"""current.json and candidate.json: which run of a model is published, and which one was judged and held."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from kronos_trainer.config.tolerant import Tolerant


class By(StrEnum):
    """Who has made a run the published one."""

    GATE = "gate"  # it was judged
    TRAINING = "training"  # it has no evaluation
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class Current(Tolerant):
    """current.json: what it says of the publication. The rest of it is what a forecast needs of the run."""

    run: str = Field(min_length=1)
    published_at: str = Field("", description="As ISO 8601 in UTC.")
    previous: str = Field("", description="Run that was published before; empty: none.")
    by: str = Field("", description="A By; empty in files of older releases.")
    overrules: Mapping[str, tuple[str, ...]] = Field(
        {},
        description="Where it was set by hand: by run, the hashes of the stages that were complete then. What the gate "
        "had decided about them counts no longer.",
    )


class Candidate(Tolerant):
    """candidate.json: the run that was judged last and held."""

    run: str = Field(min_length=1)
    held_at: str = Field("", description="As ISO 8601 in UTC.")
    published: str = Field("", description="Run that was published then, which it was compared with; empty: none.")
    message: str = Field("", description="Why, with the numbers.")

    def is_open(self, current: Current | None) -> bool:
        """Whether it still waits for somebody's decision: what it was held against is what is published."""
        return self.published == ("" if current is None else current.run)
