"""`python -m benchmarks.waiting [BUSY]`: steps of the tiny predictor beside busy processes, by how threads wait.

Each setting is a process of its own, since OpenMP reads it once. Losses of all settings have to be the same.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time

STEPS, SECONDS = 8, 25.0  # of a setting: the first steps, and when to stop short of them
SETTINGS: dict[str, dict[str, str]] = {
    "as OpenMP does by itself": {},
    "a short spin": {"GOMP_SPINCOUNT": "1000"},
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main(busy: int) -> None:
    """Prints the milliseconds of a step for each setting; the load of the machine stands beside it."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        for name, variables in SETTINGS.items():
            command = [sys.executable, "-m", "benchmarks.waiting", "steps"]
            done = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True, check=True)
            print(f"{name:>25}: {done.stdout.strip()}, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        for other in others:
            other.kill()
            other.wait()


def steps() -> None:
    """Takes the steps: 16 windows of 134 bars, random ids."""
    import torch
    from torch.nn.functional import cross_entropy

    from kronos_trainer.model.kinds import PREDICTOR
    from kronos_trainer.model.weights import scratch_net

    model = scratch_net(PREDICTOR, "tiny", 0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    coarse, fine = torch.randint(0, 64, (2, 16, 135), generator=torch.Generator().manual_seed(0))
    stamps = torch.zeros(16, 134, 5, dtype=torch.int64)
    losses, times = hashlib.sha256(), []
    began = time.perf_counter()
    for step in range(STEPS):
        started = time.perf_counter()
        torch.manual_seed(step)
        optimizer.zero_grad()
        first, second = model(coarse[:, :-1], fine[:, :-1], stamps)
        loss = cross_entropy(first.flatten(0, 1), coarse[:, 1:].flatten())
        loss = loss + cross_entropy(second.flatten(0, 1), fine[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.update(loss.detach().numpy().tobytes())
        times.append(1e3 * (time.perf_counter() - started))
        if time.perf_counter() - began > SECONDS:
            break
    median = statistics.median(times[1:] or times)
    print(f"{median:.0f} ms a step, {len(times)} steps, losses {losses.hexdigest()[:8]}")


if __name__ == "__main__":
    if sys.argv[1:] == ["steps"]:
        steps()
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 2)
