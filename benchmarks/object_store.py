"""`python -m benchmarks.object_store [symbols]`: bars and a checkpoint through an S3 server on this machine.

The server takes its share of the same cores, and there is no network between: a real store answers later, and sixteen
downloads at a time then matter more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# The server is the tests' own.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "trainer"))

from s3_server import S3Server

from kronos_trainer.data.fetch import fetch_bars
from kronos_trainer.storage import stores
from kronos_trainer.storage.stores import Store

_BARS = 250  # of each symbol, a year of days
_CHECKPOINT = 300 * 2**20  # bytes: weights and optimizer of a model of 25 million parameters


def main(symbols: int) -> None:
    """Measures and prints the figures."""
    with tempfile.TemporaryDirectory(prefix="kronos-benchmark-") as directory:
        root, here = Path(directory, "buckets"), Path(directory, "here")
        (root / "bucket" / "daily").mkdir(parents=True)
        here.mkdir()
        rows = "".join(f"2020-01-01 00:{n // 60:02}:{n % 60:02},10.0,10.5,9.5,10.25,12345\n" for n in range(_BARS))
        for number in range(symbols):
            bars = root / "bucket" / "daily" / f"S{number:05}.csv"
            bars.write_text("timestamps,open,high,low,close,volume\n" + rows)
        with S3Server(root) as server:
            os.environ.update(server.environment())
            print(f"{os.cpu_count()} cores, the server's among them; {symbols:,} files of {len(rows) // 1024} KiB")
            for parallel in (stores.PARALLEL, 1):
                stores.PARALLEL = parallel
                seconds = _timed(lambda at=parallel: fetch_bars("s3://bucket/daily", here / str(at)))
                print(f"  {parallel:2} at a time: {seconds:.1f} s, {symbols / seconds:,.0f} files/s")
            seconds = _timed(lambda: fetch_bars("s3://bucket/daily", here / "1"))
            print(f"  again, all of it here: {seconds:.1f} s")
            checkpoint, store = here / "checkpoint", Store("s3://bucket")
            checkpoint.write_bytes(os.urandom(2**20) * (_CHECKPOINT // 2**20))
            seconds = _timed(lambda: store.upload(checkpoint, "checkpoint", None, lambda: None))
            print(f"a checkpoint of {_CHECKPOINT // 2**20} MiB: up in {seconds:.1f} s", end="")
            (item,) = Store("s3://bucket/checkpoint").find()
            seconds = _timed(lambda: Store("s3://bucket/checkpoint").download([(item, here / "back")], lambda: None))
            print(f", down in {seconds:.1f} s")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
