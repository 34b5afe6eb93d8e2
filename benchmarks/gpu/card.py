"""The card, what it can do at most, and the tests that need one."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.place import SMALL, Results, seconds_a_call, wait

# Named, since a bare GPU machine lacks what other files import.
FILES = ("tests/trainer/test_gpu.py", "tests/trainer/test_two_ranks.py")


def card(results: Results) -> None:
    """Names, versions, and ceilings: products of 8,192 x 8,192 matrices, a copy, the host's time for a launch."""
    results.put("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}")
    if SMALL:
        return
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / 2**30:.0f} GiB, {properties.multi_processor_count} SMs"
    results.put("card", f"{torch.cuda.get_device_name()}, {memory}")
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    x = a.float()
    flops = 2 * 8192**3
    results.put("bf16, TFLOP/s", _rate(lambda: a @ a, flops))
    results.put("fp32, TFLOP/s", _rate(lambda: x @ x, flops))
    torch.set_float32_matmul_precision("high")
    results.put("tf32, TFLOP/s", _rate(lambda: x @ x, flops))
    big = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(big)
    results.put("copy, TB/s", _rate(lambda: other.copy_(big), 2 * 2**30))
    one = torch.zeros(1, device="cuda")
    began = time.perf_counter()
    for _ in range(5000):
        one.add_(1)
    results.put("host's microseconds a launch", round((time.perf_counter() - began) / 5000 * 1e6, 1))
    wait()


def tests(results: Results) -> None:
    """The tests marked `gpu`, each by its name: ids, gradients, resume, lack of memory, graph, two ranks."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-m", "gpu", *FILES, "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True)
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\S+)", done.stdout, re.MULTILINE):
        results.put(name, "passed" if outcome == "PASSED" else {"failed": outcome.lower()})
    if skipped := re.findall(r"^SKIPPED \[(\d+)\] (.*)$", done.stdout, re.MULTILINE):
        results.put("tests skipped", "; ".join(f"{count} at {where}" for count, where in skipped))
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n")
        results.put("pytest", {"failed": f"exit code {done.returncode}"})


def _rate(work: Callable[[], object], amount: float) -> float:
    """Tera of something a second."""
    return round(amount / seconds_a_call(work, warm_up=3, calls=10) / 1e12, 2)
