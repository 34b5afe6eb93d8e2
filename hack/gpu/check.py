"""One GPU run: is the trainer right on CUDA, how fast is it, and what would make it faster.

    python hack/gpu/check.py [--budget SECONDS] [--out DIR] [--only env,correct,...] [--smoke]

Every section is a process of its own with a time limit, so that a device-side assertion or a hang costs one section.
What is known is written to DIR/check.json after each section; the table comes last. --smoke runs on the CPU with small
numbers, to try the script itself. Prototypes (CUDA graph) live here and not in the trainer: they say what a change
would bring.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

# name -> (seconds it may take, least seconds for which it is worth starting), in order of worth
SECTIONS = {
    "env": (25, 5),
    "tests": (60, 15),
    "correct": (80, 30),
    "steps_mini": (110, 30),
    "product": (100, 40),
    "steps_small": (130, 30),
    "generation": (80, 20),
    "steps_base": (110, 40),
    "tokenizer": (30, 20),
    "packing": (65, 55),
}
HERE = Path(__file__).resolve()
BATCH, LOOKBACK, HORIZON = 64, 120, 15


# ---------------------------------------------------------------------------------------------- shared by the sections


class Out:
    """Results of one section: a dict that is written as it grows."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.data = path, {}

    def put(self, name: str, value: Any) -> None:
        self.data[name] = value
        print(f"  {name}: {json.dumps(value, default=str)}", flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.data, indent=1, default=str))

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        try:
            value = work()
            self.put(name, value)
            return value
        except Exception as error:
            import torch

            # the frames that speak of this failure are kept alive by it, and with them the device's memory
            self.put(name, {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"})
            error.__traceback__ = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None


def device() -> Any:
    import torch

    return torch.device("cpu" if SMOKE else "cuda")


def sync() -> None:
    import torch

    if not SMOKE:
        torch.cuda.synchronize()


@functools.cache
def workplace() -> Path:
    return Path(tempfile.mkdtemp(prefix="kronos-gpu-"))


def bars_file() -> Path:
    """Hourly bars of a random walk: values do not change the amount of work."""
    import numpy as np
    import pandas as pd

    rows = 600 if SMOKE else 20_000

    path = workplace() / f"bars-{rows}.csv"
    if not path.exists():
        g = np.random.default_rng(0)
        close = 100 * np.exp(np.cumsum(g.normal(0, 0.002, rows)))
        open_ = np.append(close[0], close[:-1])
        frame = {
            "timestamps": pd.date_range("2010-01-01", periods=rows, freq="1h"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": g.lognormal(8, 1, rows),
        }
        pd.DataFrame(frame).assign(amount=lambda f: f.volume * f.close).to_csv(path, index=False)
    return path


def make_run(stage: str, size: str, tokenizer: str, *, micro: int, batch: int = BATCH, output: str = "out", **fields: Any) -> Any:
    from kronos_trainer.config import RunConfig

    training = {"precision": "bf16", **fields.pop("training", {})}
    shared = {"batch_size": batch, "micro_batch_size": micro, "epochs": fields.pop("epochs", 2), "learning_rate": 1e-4}
    return RunConfig.model_validate(
        {
            "model": {"name": "gpu-check"},
            "run": "run-1",
            "stage": stage,
            "stage_hashes": {"tokenizer": "t" * 12, "predictor": "p" * 12},
            "publish": False,
            "timeframe": "1h",
            "data": {"source": {"path": "bars"}},
            "window": {"lookback": LOOKBACK, "horizon": HORIZON},
            "tokenizer": {"init": {"scratch": {"size": tokenizer}}, **shared},
            "predictor": {"init": {"scratch": {"size": size}}, **shared},
            "training": training,
            "evaluation": {},
            "checkpoint": fields.pop("checkpoint", {}),
            "bars": str(bars_file()),
            "output": str(workplace() / output),
            **fields,
        }
    )


@functools.cache
def splits() -> Any:
    from kronos_trainer.config import Data, Timeframe, Window
    from kronos_trainer.data.bars import prepare_bars
    from kronos_trainer.data.windows import split_bars

    data = Data.model_validate({"source": {"path": "-"}})
    bars = prepare_bars(bars_file(), Timeframe.H1, data, workplace() / "bars", lambda: None).open()
    return split_bars(bars, data, Window(lookback=LOOKBACK, horizon=HORIZON))


@functools.cache
def tokens() -> Any:
    """Ids of the training windows, encoded on the device with a random tokenizer; (cache, seconds)."""
    from kronos_trainer.model.kinds import TOKENIZER
    from kronos_trainer.model.weights import scratch_net
    from kronos_trainer.training.task import to_device
    from kronos_trainer.training.tokens import TokenCache

    tokenizer = scratch_net(TOKENIZER, "tiny" if SMOKE else "base", 0).eval().to(device())
    cache = TokenCache(workplace() / "tokens", "check", splits().train)
    began = time.perf_counter()
    cache.fill(lambda values: tokenizer.encode(to_device(values, device())), rank=0, world=1, beat=lambda: None)
    cache.finish()
    return cache, time.perf_counter() - began


def make_loop(run: Any, stage: Any, plan: Any, *, save: Callable[..., None] = lambda **state: None) -> Any:
    from kronos_trainer.training.comet import NullReporter
    from kronos_trainer.training.distributed import Ranks
    from kronos_trainer.training.loop import Loop
    from kronos_trainer.training.metrics import Metrics
    from kronos_trainer.training.progress import Progress

    return Loop(
        run,
        stage,
        ranks=Ranks(device=device()),
        plan=plan,
        train_windows=len(splits().train),
        validation_windows=min(512, len(splits().validation)),
        steps_per_epoch=100_000,
        save=save,
        metrics=Metrics(None, NullReporter()),
        progress=Progress(run, silent=True),
        stop_requested=lambda: False,
    )


def make_stage(kind: str, size: str, run: Any) -> Any:
    from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
    from kronos_trainer.model.weights import scratch_net
    from kronos_trainer.training.precision import choose_precision
    from kronos_trainer.training.predictor import PredictorTask
    from kronos_trainer.training.tokenizer import TokenizerTask

    precision = choose_precision(run.training, device())
    if kind == "tokenizer":
        return TokenizerTask(scratch_net(TOKENIZER, size, 0).to(device()), splits(), precision, lambda mean: mean)
    cache = tokens()[0]
    return PredictorTask(scratch_net(PREDICTOR, size, 0).to(device()), cache, cache, precision, upstream_exact=False)


def ours(kind: str, size: str, *, micro: int, precision: str, compiled: bool = False) -> Callable[[], None]:
    """The trainer's own step, with everything that belongs to it: seeds, gather, transfer, optimizer."""
    import torch

    from kronos_trainer.training.batching import plan_batches

    run = make_run(kind, size if kind == "predictor" else "mini", size if kind == "tokenizer" else "base", micro=micro,
                   training={"precision": precision, "compile": compiled})
    plan = plan_batches(batch_size=BATCH, micro_batch_size=micro, world=1, out_of_memory_restarts=0)
    stage = make_stage(kind, size, run)
    loop = make_loop(run, stage, plan)
    order = torch.randperm(len(splits().train))
    counter = itertools.count()

    def step() -> None:
        # the wish of this variant, whatever another asked for in between
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        place = next(counter) * BATCH % (len(order) - BATCH)
        loop._train_step(order[place : place + BATCH])

    step.stage = stage  # type: ignore[attr-defined]
    return step


class GraphStep:
    """PROTOTYPE: ids, stamps and the whole step on the device; one graph launch a step."""

    def __init__(self, size: str, *, precision: str, compiled: bool = False, graph: bool = True) -> None:
        import torch
        from torch import nn

        from kronos_trainer.config import PredictorStage
        from kronos_trainer.model.kinds import PREDICTOR
        from kronos_trainer.model.weights import scratch_net
        from kronos_trainer.training.optimizer import _groups

        self.precision, dev = precision, device()
        train = splits().train
        every = torch.arange(len(train))
        self.ids = torch.stack(tokens()[0].gather(every)[:2], dim=1).to(torch.int16).to(dev)  # [N, 2, T]
        self.stamps = torch.from_numpy(train.bars.stamps.astype("int64")).to(dev)  # [R, 5]
        self.rows = torch.from_numpy(train.rows(every)).to(dev)
        self.span = torch.arange(train.length, device=dev)
        self.model = scratch_net(PREDICTOR, size, 0).to(dev).train()
        self.called: nn.Module = torch.compile(self.model) if compiled else self.model  # type: ignore[assignment]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.lr = torch.full((), 1e-5, device=dev)
        capturable = dev.type == "cuda"
        self.adamw = torch.optim.AdamW(
            _groups(self.model, PredictorStage().weight_decay, everything=False),
            lr=self.lr if capturable else 1e-5, betas=(0.9, 0.95), fused=True, capturable=capturable,
        )
        self.index = torch.zeros(BATCH, dtype=torch.int64, device=dev)
        self.order = torch.randperm(len(train)).to(dev)
        self.sums = torch.zeros(2, dtype=torch.float64, device=dev)
        self.bad = torch.zeros((), device=dev)
        self.count = 0
        self.graph: Any = None
        if graph:
            self._capture()

    def _once(self) -> None:
        import torch
        from torch import nn

        from kronos_trainer.training.predictor import _cross_entropies

        pair = self.ids[self.index].long()
        s1, s2 = pair[:, 0], pair[:, 1]
        stamps = self.stamps[self.rows[self.index][:, None] + self.span]
        self.adamw.zero_grad(set_to_none=True)
        cast = torch.autocast(self.index.device.type, torch.bfloat16) if self.precision == "bf16" else contextlib.nullcontext()
        with cast:
            coarse, fine = self.called(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        loss = _cross_entropies(coarse, fine, s1[:, 1:], s2[:, 1:]).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 3.0)
        self.bad.copy_(torch.maximum(self.bad, (~norm.isfinite()).float()))  # once bad, always bad
        self.adamw.found_inf = self.bad  # type: ignore[attr-defined]
        self.adamw.step()
        self.sums[0] += loss.detach()
        self.sums[1] += norm

    def _capture(self) -> None:
        import torch

        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._once()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._once()

    def __call__(self) -> None:
        import torch

        from kronos_trainer.training.seeding import seed_of

        torch.manual_seed(seed_of(0, "predictor", self.count, 0, 0))
        place = self.count * BATCH % (len(self.order) - BATCH)
        self.count += 1
        self.index.copy_(self.order[place : place + BATCH])
        if self.graph is None:
            self._once()
        else:
            self.graph.replay()


class Upstream:
    """Upstream's classes, driven as finetune/train_*.py drive them, on the device."""

    def __init__(self, kind: str, size: str, *, loader: bool) -> None:
        import torch
        from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer

        from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
        from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
        from kronos_trainer.model.weights import scratch_net

        base = "tiny" if SMOKE else "base"
        self.kind = kind
        self.tokenizer = KronosTokenizer(**asdict(TOKENIZERS[size if kind == "tokenizer" else base]))
        self.tokenizer.load_state_dict(scratch_net(TOKENIZER, size if kind == "tokenizer" else base, 0).state_dict())
        self.tokenizer.to(device()).eval()
        if kind == "predictor":
            self.model = Kronos(**asdict(PREDICTORS[size]))
            self.model.load_state_dict(scratch_net(PREDICTOR, size, 0).state_dict())
        else:
            self.model = self.tokenizer
        self.model.to(device()).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-5, betas=(0.9, 0.95), weight_decay=0.1)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=4e-5, total_steps=100_000, pct_start=0.03, div_factor=10
        )
        self.batches = self._loaded() if loader else self._resident()

    def _resident(self) -> Iterator[Any]:
        """The same windows as ours, on the device already: upstream without its loader."""
        import torch

        train = splits().train
        made = []
        for number in range(min(8, len(train) // BATCH)):
            batch = train.gather(torch.arange(number * BATCH, (number + 1) * BATCH))
            made.append((batch.values.contiguous().to(device()), batch.stamps.float().contiguous().to(device())))
        return itertools.cycle(made)

    def _loaded(self) -> Iterator[Any]:
        import pandas as pd
        from benchmarks.upstream import WindowDataset
        from torch.utils.data import DataLoader

        frame = pd.read_csv(bars_file(), parse_dates=["timestamps"])
        dataset = WindowDataset({"X": frame}, lookback=LOOKBACK, horizon=HORIZON)
        loader = DataLoader(dataset, BATCH, num_workers=2, pin_memory=not SMOKE, drop_last=True, persistent_workers=True)
        for values, stamps in itertools.chain.from_iterable(loader for _ in itertools.count()):
            yield values.to(device(), non_blocking=True), stamps.to(device(), non_blocking=True)

    def __call__(self) -> None:
        import torch

        torch.set_float32_matmul_precision("highest")  # upstream never sets it
        values, stamps = next(self.batches)
        if self.kind == "tokenizer":
            (coarse, fine), quantizer_loss, _, _ = self.model(values)
            mse = torch.nn.functional.mse_loss
            loss = (mse(coarse, values) + mse(fine, values) + quantizer_loss) / 2
            clip = 2.0
        else:
            with torch.no_grad():
                s1, s2 = self.tokenizer.encode(values, half=True)
            logits = self.model(s1[:, :-1], s2[:, :-1], stamps[:, :-1, :])
            loss, _, _ = self.model.head.compute_loss(*logits, s1[:, 1:], s2[:, 1:])
            clip = 3.0
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.schedule.step()


def timed(variants: dict[str, Callable[[], None]], *, rounds: int, steps: int, out: Out, title: str) -> None:
    """Milliseconds a step, in rounds in which the variants take turns; the first is the reference of the ratios."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in variants}
    host: dict[str, list[float]] = {name: [] for name in variants}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name, step in variants.items():
            step()
            sync()
            if not SMOKE:
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            for _ in range(steps):
                step()
            enqueued = time.perf_counter()
            sync()
            ended = time.perf_counter()
            times[name].append((ended - began) / steps * 1e3)
            host[name].append((enqueued - began) / steps * 1e3)
            if not SMOKE:
                memory[name] = torch.cuda.max_memory_allocated() / 2**20
    reference = times[next(iter(variants))]
    for name in variants:
        ratio = statistics.median(a / b for a, b in zip(reference, times[name], strict=True))
        out.put(
            f"{title} | {name}",
            {
                "ms": round(statistics.median(times[name]), 3),
                "host_ms": round(statistics.median(host[name]), 3),
                "windows_s": round(BATCH / statistics.median(times[name]) * 1e3),
                "x": round(ratio, 2),
                "peak_MiB_of_all_variants_so_far": round(memory.get(name, 0)),
            },
        )


def launches(step: Callable[[], None]) -> dict[str, Any]:
    """Kernel launches of a step, the time the device was busy, and its costliest kernels."""
    from torch.profiler import ProfilerActivity, profile

    step()
    sync()
    with profile(activities=[ProfilerActivity.CPU] + ([] if SMOKE else [ProfilerActivity.CUDA])) as seen:
        began = time.perf_counter()
        for _ in range(3):
            step()
        sync()
        wall = (time.perf_counter() - began) / 3 * 1e3
    averages = seen.key_averages()
    launched = sum(e.count for e in averages if e.key in ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"))
    waits = {e.key: e.count // 3 for e in averages if "Synchronize" in e.key or e.key == "cudaMemcpy"}
    kernels = [e for e in averages if getattr(e, "self_device_time_total", 0) > 0 and str(e.device_type).endswith("CUDA")]
    busy = sum(e.self_device_time_total for e in kernels) / 3e3
    kernels.sort(key=lambda e: -e.self_device_time_total)
    top = {e.key[:70]: [e.count // 3, round(e.self_device_time_total / 3e3, 3)] for e in kernels[:14]}
    return {"launches": launched // 3, "device_busy_ms": round(busy, 3), "wall_ms": round(wall, 3), "syncs": waits, "top": top}


# ----------------------------------------------------------------------------------------------------------- sections


def env(out: Out) -> None:
    import torch

    out.put("torch", [torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), sys.version.split()[0], os.cpu_count()])
    if SMOKE:
        return
    out.put("gpu", [torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).multi_processor_count,
                    torch.cuda.mem_get_info()[1] // 2**20, str(torch.cuda.nccl.version())])
    out.attempt("nvidia-smi", lambda: subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout.strip())
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn_like(a)
    big = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(big)

    def rate(work: Callable[[], Any], amount: float, repeats: int = 20) -> float:
        for _ in range(3):
            work()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        for _ in range(repeats):
            work()
        last.record()
        sync()
        return round(amount * repeats / first.elapsed_time(last) / 1e9, 2)  # in tera per second

    out.put("bf16_TFLOPs", rate(lambda: a @ b, 2 * 8192**3))
    x, y = a.float(), b.float()
    out.put("fp32_TFLOPs", rate(lambda: x @ y, 2 * 8192**3, 5))
    torch.set_float32_matmul_precision("high")
    out.put("tf32_TFLOPs", rate(lambda: x @ y, 2 * 8192**3, 5))
    torch.set_float32_matmul_precision("highest")
    out.put("copy_TBs", rate(lambda: other.copy_(big), 2 * 2**30))
    tiny = torch.zeros(1, device="cuda")
    began = time.perf_counter()
    for _ in range(5000):
        tiny.add_(1)
    out.put("host_us_per_launch", round((time.perf_counter() - began) / 5000 * 1e6, 2))
    sync()


def tests(out: Out) -> None:
    """The suite's tests that need a GPU, once there are any."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/trainer", "-p", "no:cacheprovider", "-W", "default"],
                          capture_output=True, text=True, timeout=SECTIONS["tests"][0] - 5)
    out.put("pytest", {"code": done.returncode, "tail": done.stdout.strip().splitlines()[-4:]})


def correct(out: Out) -> None:
    import torch

    from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
    from kronos_trainer.model.weights import scratch_net
    from kronos_trainer.training.predictor import _cross_entropies

    names = {0: "math", 1: "flash", 2: "mem-efficient", 3: "cudnn"}

    def backends() -> dict[str, str]:
        found = {}
        shapes = {"mini": (4, 64, 0.0), "small": (8, 64, 0.1), "small dep": (4, 128, 0.0), "base": (16, 52, 0.0),
                  "base dep": (4, 208, 0.0), "large dep": (4, 416, 0.0)}
        for (label, (heads, width, drop)), dtype in itertools.product(shapes.items(), (torch.float32, torch.bfloat16)):
            q, k, v = (torch.randn(16, 135, heads, width, device="cuda", dtype=dtype, requires_grad=True).transpose(1, 2) for _ in range(3))
            one = q[:, :, :1].detach()
            def pick(*x: Any, **kw: Any) -> str:
                return names.get(torch._fused_sdp_choice(*x, **kw), "?")
            found[f"{label} {str(dtype)[6:]}"] = f"train {pick(q, k, v, dropout_p=drop, is_causal=True)}, decode {pick(one, k.detach(), v.detach())}"
        return found

    if not SMOKE:
        out.attempt("sdpa", backends)

    def ids() -> dict[str, Any]:
        tokenizer = scratch_net(TOKENIZER, "tiny" if SMOKE else "base", 0).eval()
        values = splits().train.values(torch.arange(256))
        here = torch.stack(tokenizer.encode(values))
        there = torch.stack(tokenizer.to(device()).encode(values.to(device()))).cpu()
        small = torch.cat([torch.stack(tokenizer.encode(part.to(device()))).cpu() for part in values.split(16)], dim=1)
        torch.set_float32_matmul_precision("high")
        again = torch.stack(tokenizer.encode(values.to(device()))).cpu()  # must be as without TF32
        torch.set_float32_matmul_precision("highest")
        return {"of": here.numel(), "cpu!=gpu": int((here != there).sum()), "batch 16!=256": int((small != there).sum()),
                "tf32 allowed!=not": int((again != there).sum())}

    out.attempt("ids", ids)

    def inputs(batch: int, length: int) -> tuple[Any, Any, Any]:
        g = torch.Generator().manual_seed(1)
        stamps = torch.stack([torch.zeros(batch, length), *(torch.randint(1, n, (batch, length), generator=g) for n in (24, 7, 31, 12))], -1)
        return (torch.randint(1024, (batch, length), generator=g), torch.randint(1024, (batch, length), generator=g), stamps.long())

    def gradients(size: str, batch: int, length: int, precision: str, *, on: Any, dropout: bool = True) -> dict[str, Any]:
        model = scratch_net(PREDICTOR, size, 0).to(on).train()
        if not dropout:
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "attn_dropout"):
                    module.attn_dropout = 0.0
        s1, s2, stamps = (x.to(on) for x in inputs(batch, length))
        torch.manual_seed(7)
        with torch.autocast(on.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            # true coarse ids as condition: the sampled ones would differ between devices
            coarse, fine = model(s1[:, :-1], s2[:, :-1], stamps[:, :-1], sibling=None if dropout else s1[:, 1:])
        _cross_entropies(coarse, fine, s1[:, 1:], s2[:, 1:]).mean().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    def parity(precision: str) -> dict[str, float]:
        size = "tiny" if SMOKE else "mini"
        cpu = gradients(size, 4, 136, "fp32", on=torch.device("cpu"), dropout=False)
        gpu = gradients(size, 4, 136, precision, on=device(), dropout=False)
        worst = max(((gpu[n].cpu() - cpu[n]).norm() / cpu[n].norm().clamp_min(1e-12)).item() for n in cpu)
        whole = (sum((gpu[n].cpu() - cpu[n]).square().sum() for n in cpu) / sum(cpu[n].square().sum() for n in cpu)).sqrt().item()
        return {"worst tensor": worst, "all": whole}

    for precision in ("fp32", "bf16"):
        out.attempt(f"gradients gpu against cpu fp32, {precision}", functools.partial(parity, precision))

    @contextlib.contextmanager
    def mode(name: str) -> Iterator[None]:
        if name == "deterministic":
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False
        if name == "no cudnn sdpa":
            torch.backends.cuda.enable_cudnn_sdp(False)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cuda.enable_cudnn_sdp(True)

    def repeated(size: str, batch: int, length: int, precision: str) -> str:
        first = gradients(size, batch, length, precision, on=device())
        unequal: dict[str, int] = {}
        for _ in range(4):
            again = gradients(size, batch, length, precision, on=device())
            for name in first:
                if not torch.equal(first[name], again[name]):
                    unequal[name] = unequal.get(name, 0) + 1
        return "equal" if not unequal else f"{len(unequal)} of {len(first)} tensors differ, e.g. {sorted(unequal)[:2]}"

    cases = [("mini", 16, 101, "bf16"), ("mini", 64, 136, "bf16"), ("mini", 64, 136, "fp32"), ("small", 64, 136, "bf16"),
             ("base", 16, 136, "bf16"), ("mini", 16, 501, "bf16")]
    for case in [("tiny", 2, 20, "fp32")] if SMOKE else cases:
        for name in ("default", "no cudnn sdpa", "deterministic"):
            with mode(name):
                out.attempt(f"five times the same step, {' '.join(map(str, case))}, {name}", functools.partial(repeated, *case))

    def audit() -> list[str]:
        """Where a step waits for the device."""
        step = ours("predictor", "tiny" if SMOKE else "mini", micro=32, precision="bf16")
        step()
        if SMOKE:
            return []
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
        torch.cuda.set_sync_debug_mode("default")
        return sorted({f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)})

    out.attempt("a step waits at", audit)

    def resume(kind: str, precision: str) -> dict[str, Any]:
        from kronos_trainer.storage.checkpoint import Restored
        from kronos_trainer.training.batching import plan_batches

        size = {"predictor": "tiny" if SMOKE else "small", "tokenizer": "tiny" if SMOKE else "base"}[kind]
        run = make_run(kind, size if kind == "predictor" else "mini", size if kind == "tokenizer" else "base", micro=32,
                       training={"precision": precision})
        plan = plan_batches(batch_size=BATCH, micro_batch_size=32, world=1, out_of_memory_restarts=0)
        batches = torch.randperm(len(splits().train), generator=torch.Generator().manual_seed(3))[: 8 * BATCH].view(8, BATCH)
        kept: dict[str, Any] = {}

        def keep(*, weights: Any, optimizer: Any, meta: Any, best: bool) -> None:
            kept.update(weights={n: t.cpu().clone() for n, t in weights.items()}, optimizer=torch.utils._pytree.tree_map(
                lambda x: x.cpu().clone() if isinstance(x, torch.Tensor) else x, optimizer), meta=meta)

        whole = make_loop(run, make_stage(kind, size, run), plan, save=keep)
        for number, batch in enumerate(batches):
            if number == 4:
                whole._save(best=False)
            whole._train_step(batch)
        halved = make_loop(run, make_stage(kind, size, run), plan)
        halved.restore(Restored(kept["meta"], kept["weights"], kept["optimizer"]))
        for batch in batches[4:]:
            halved._train_step(batch)
        pairs = zip(whole._stage.model.state_dict().items(), halved._stage.model.state_dict().values(), strict=True)
        return {"unequal tensors": [name for (name, a), b in pairs if not torch.equal(a, b)][:3]}

    for name, kind in itertools.product(("default", "deterministic"), ("predictor", "tokenizer")):
        with mode(name):
            out.attempt(f"8 steps against 4 + resumed 4, {kind}, {name}", functools.partial(resume, kind, "fp32" if SMOKE else "bf16"))


def steps(size: str, out: Out, *, compiled: bool, rounds: int = 3, count: int = 15) -> None:
    if SMOKE:
        size, count, rounds = "tiny", 2, 1
    out.put("tokenising", {"windows": len(splits().train), "seconds": round(tokens()[1], 2)})
    made: dict[str, Callable[[], None]] = {}

    def add(name: str, make: Callable[[], Callable[[], None]]) -> None:
        try:
            began = time.perf_counter()
            step = make()
            step()
            sync()
            made[name] = step
            if (took := time.perf_counter() - began) > 5:
                out.put(f"{size} | {name} | first step, s", round(took, 1))
        except Exception as error:
            out.put(f"{size} | {name}", {"failed": f"{type(error).__name__}: {str(error)[:300]}"})

    bf16 = "fp32" if SMOKE else "bf16"
    add("upstream, fp32, batches on the GPU", lambda: Upstream("predictor", size, loader=False))
    add("upstream, fp32, its loader (2 workers)", lambda: Upstream("predictor", size, loader=True))
    add("ours as shipped: bf16, micro 16", lambda: ours("predictor", size, micro=16, precision=bf16))
    add("ours bf16, micro 64", lambda: ours("predictor", size, micro=64, precision=bf16))
    add("ours tf32, micro 64", lambda: ours("predictor", size, micro=64, precision="fp32" if SMOKE else "tf32"))
    add("ours fp32, micro 64", lambda: ours("predictor", size, micro=64, precision="fp32"))
    if not SMOKE:
        add("prototype: graph, bf16", lambda: GraphStep(size, precision="bf16"))
        add("prototype: graph, tf32", lambda: GraphStep(size, precision="tf32"))
    else:
        add("prototype without a graph", lambda: GraphStep(size, precision="fp32", graph=False))
    if compiled and not SMOKE:
        add("ours bf16, micro 64, compiled", lambda: ours("predictor", size, micro=64, precision="bf16", compiled=True))
        add("prototype: compiled + graph, bf16", lambda: GraphStep(size, precision="bf16", compiled=True))
    timed(made, rounds=rounds, steps=count, out=out, title=size)
    for name in ("ours as shipped: bf16, micro 16", "ours bf16, micro 64", "prototype: compiled + graph, bf16"):
        if name in made:
            out.attempt(f"{size} | {name} | profile", functools.partial(launches, made[name]))
    if not SMOKE and "ours bf16, micro 64" in made:
        import torch

        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        timed({"ours bf16, micro 64, deterministic": made["ours bf16, micro 64"]}, rounds=2, steps=count, out=out, title=size)
        torch.use_deterministic_algorithms(False)

        def same() -> bool:
            a, b = GraphStep(size, precision="bf16", graph=False), GraphStep(size, precision="bf16")
            b.model.load_state_dict(a.model.state_dict())
            b.adamw.load_state_dict(a.adamw.state_dict()) if a.adamw.state else None
            for state in b.adamw.state.values():
                for tensor in state.values():
                    tensor.zero_()
            b.order.copy_(a.order)
            a.count = b.count = 0
            for _ in range(4):
                a()
                b()
            return all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))

        out.attempt(f"{size} | graph and eager give equal bits after 4 steps", same)


def tokenizer(out: Out) -> None:
    size = "tiny" if SMOKE else "base"
    bf16 = "fp32" if SMOKE else "bf16"
    variants: dict[str, Callable[[], None]] = {
        "upstream, fp32, batches on the GPU": Upstream("tokenizer", size, loader=False),
        "ours as shipped: bf16, micro 16": ours("tokenizer", size, micro=16, precision=bf16),
        "ours bf16, micro 64": ours("tokenizer", size, micro=64, precision=bf16),
        "ours fp32, micro 64": ours("tokenizer", size, micro=64, precision="fp32"),
    }
    timed(variants, rounds=1 if SMOKE else 3, steps=2 if SMOKE else 15, out=out, title="tokenizer")


def generation(out: Out) -> None:
    import numpy as np
    import pandas as pd
    import torch
    from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer
    from kronos_finance._vendor.kronos_model import KronosPredictor as Theirs

    from kronos_trainer.forecast.forecaster import Forecaster
    from kronos_trainer.forecast.generation import generate
    from kronos_trainer.forecast.sampling import Sampling
    from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
    from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
    from kronos_trainer.model.weights import scratch_net

    frame = pd.read_csv(bars_file(), parse_dates=["timestamps"])

    def seconds(work: Callable[[], Any], repeats: int) -> float:
        work()
        sync()
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            sync()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    for size in ("tiny",) if SMOKE else ("mini", "base"):
        mine = Forecaster(scratch_net(TOKENIZER, "base", 0), scratch_net(PREDICTOR, size, 0), device=device())
        their_tokenizer, their_model = KronosTokenizer(**asdict(TOKENIZERS["base"])), Kronos(**asdict(PREDICTORS[size]))
        their_tokenizer.load_state_dict(scratch_net(TOKENIZER, "base", 0).state_dict())
        their_model.load_state_dict(scratch_net(PREDICTOR, size, 0).state_dict())
        theirs = Theirs(their_model.eval(), their_tokenizer.eval(), device=str(device()))
        for lookback, horizon, series, samples in ((20, 3, 2, 2),) if SMOKE else ((90, 10, 1, 1), (400, 100, 1, 1), (120, 15, 32, 10)):
            histories = [frame.iloc[i : i + lookback].reset_index(drop=True) for i in range(series)]
            futures = [frame["timestamps"].iloc[i + lookback : i + lookback + horizon].reset_index(drop=True) for i in range(series)]
            a = seconds(lambda: theirs.predict_batch(histories, [h["timestamps"] for h in histories], futures, pred_len=horizon, top_p=0.9,
                                                     sample_count=samples, verbose=False), 1 if SMOKE else 2)
            b = seconds(lambda: mine.forecast_many(histories, [pd.DatetimeIndex(f) for f in futures], Sampling(samples=samples)), 1 if SMOKE else 3)
            out.put(f"{size} {lookback}->{horizon}, {series} series x {samples}", {"upstream_ms": round(a * 1e3, 1), "ours_ms": round(b * 1e3, 1), "x": round(a / b, 2)})
        # evaluation: many origins at once, without pandas
        for series, name in itertools.product((8,) if SMOKE else (256, 1024), ("fp32",) if SMOKE else ("fp32", "tf32", "bf16")):
            values = torch.from_numpy(np.random.default_rng(0).normal(size=(series, 120, 6)).astype("float32")).to(device())
            stamps = torch.ones(series, 135, 5, dtype=torch.int64, device=device())
            uniforms = torch.rand(series, 10, 15, 2, device=device())

            def many() -> None:
                torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
                with torch.autocast(device().type, torch.bfloat16) if name == "bf16" else contextlib.nullcontext():
                    torch.backends.cuda.enable_cudnn_sdp(False)  # it would plan anew for every length
                    generate(mine.tokenizer, mine.predictor, values, stamps, uniforms, Sampling(samples=10), max_context=512)

            def rate() -> dict[str, Any]:
                if not SMOKE:
                    torch.cuda.reset_peak_memory_stats()
                taken = seconds(many, 1 if SMOKE else 3)
                return {"windows_s": round(series / taken), "ms": round(taken * 1e3, 1), "peak_MiB": 0 if SMOKE else torch.cuda.max_memory_allocated() // 2**20}

            out.attempt(f"{size} 120->15 x 10 samples, {series} origins at once, {name}", rate)


def product(out: Out) -> None:
    """The trainer's own process: both stages, kill -9 and resume, lack of memory, two NCCL ranks on this GPU."""
    from kronos_trainer.config import StageName

    size, tokenizer_size = ("tiny", "tiny") if SMOKE else ("mini", "base")
    scale = {"windows_per_epoch": 192 if SMOKE else 6400}
    common = {"epochs": 1 if SMOKE else 2, "training": {"precision": "fp32" if SMOKE else "bf16", **scale}}

    def start(run: Any, name: str, script: list[str] | None = None, **environ: str) -> subprocess.Popen[str]:
        config = workplace() / f"{name}.json"
        config.write_text(run.dump())
        temporary = workplace() / f"tmp-{name}"
        temporary.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, *(script or ["-m", "kronos_trainer"]), "--run", str(config)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(temporary)} | environ)

    def finish(process: subprocess.Popen[str], limit: float) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            said, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            said, errors = process.communicate()
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        phases: dict[str, float] = {}
        stamps = [(e.get("phase", "end"), e["time"]) for e in events if e["event"] in ("phase", "result")]
        from datetime import datetime

        at = [(name, datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) for name, text in stamps]
        for (name, when), (_, after) in itertools.pairwise(at):
            phases[name] = round(phases.get(name, 0) + after - when, 2)
        return {"code": process.returncode, "seconds": round(time.perf_counter() - began, 1), "phases": phases,
                "samplesPerSecond": next((e["samplesPerSecond"] for e in reversed(events) if "samplesPerSecond" in e), None),
                "stderr": errors.strip().splitlines()[-1:] if process.returncode else []}

    def last(run: Any) -> dict[str, bytes]:
        files = run.paths().stage(run.stage)
        latest = files.checkpoints / json.loads(files.pointer.read_text())["latest"]["directory"]
        return {name: (latest / name).read_bytes() for name in ("weights.safetensors", "optimizer.safetensors")}

    runs = {}
    for stage in StageName.with_weights():
        run = make_run(stage.value, size, tokenizer_size, micro=64, output="whole", epochs=common["epochs"], training=dict(common["training"]))
        runs[stage] = run
        out.put(f"train {stage.value}", finish(start(run, f"whole-{stage.value}"), 600 if SMOKE else 60))

    def killed() -> dict[str, Any]:
        import shutil

        whole = runs[StageName.PREDICTOR]
        again = whole.model_copy(update={"output": str(workplace() / "killed")})
        shutil.copytree(Path(whole.output), Path(again.output))
        shutil.rmtree(again.paths().stage(again.stage).directory)
        again = again.model_copy(update={"checkpoint": again.checkpoint.model_copy(update={"every_seconds": 1})})
        passes = 2 if SMOKE else 130
        first = finish(start(again, "killed", ["tests/trainer/faulty_rank.py"], RANK="0", FAULT=f"kill@0:{passes}"), 600 if SMOKE else 40)
        second = finish(start(again.model_copy(update={"attempt": 1}), "resumed"), 600 if SMOKE else 40)
        equal = {name: last(again)[name] == content for name, content in last(whole).items()}
        return {"killed": first["code"], "resumed": second["code"], "bitwise equal to undisturbed": equal}

    out.attempt("kill -9 and resume", killed)

    if not SMOKE:
        def cramped() -> dict[str, Any]:
            run = make_run("predictor", "small", tokenizer_size, micro=64, output="whole", epochs=1, training=dict(common["training"]), run="cramped",
                           stage_hashes={"tokenizer": "t" * 12, "predictor": "q" * 12}, reuse_tokenizer={"run": "run-1", "hash": "t" * 12})
            script = workplace() / "cramped.py"
            script.write_text("import sys, torch; torch.cuda.set_per_process_memory_fraction(0.006)\nfrom kronos_trainer.training.rank import end, main\nfrom kronos_trainer.stopping import StopSignal\nend(main(sys.argv[1:], StopSignal()))\n")
            return finish(start(run, "cramped", [str(script)]), 40)

        out.attempt("lack of memory ends with 71", cramped)

        def two_ranks() -> dict[str, Any]:
            """Two 'nodes' of one GPU each that are the same GPU: the real NCCL path, over the loopback."""
            run = make_run("predictor", size, tokenizer_size, micro=32, output="whole", epochs=1, training={"precision": "bf16", "windows_per_epoch": 640},
                           run="two", stage_hashes={"tokenizer": "t" * 12, "predictor": "r" * 12}, reuse_tokenizer={"run": "run-1", "hash": "t" * 12})
            shared = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511",
                      "NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "NCCL_DEBUG": "WARN"}
            ranks = [start(run, f"rank{r}", RANK=str(r), NCCL_HOSTID=f"node{r}", **shared) for r in range(2)]
            ends = [finish(process, 60) for process in ranks]
            return {"codes": [e["code"] for e in ends], "phases": ends[0]["phases"], "stderr": [e["stderr"] for e in ends]}

        out.attempt("two NCCL ranks on this GPU", two_ranks)


def packing(out: Out) -> None:
    """Several models of one size on this GPU at once, a process each, without MPS."""
    seconds = 1 if SMOKE else 5
    for kind in ("eager",) if SMOKE else ("eager", "graph"):
        for count in (2,) if SMOKE else (3,):  # one alone: steps_mini
            start = time.time() + (8 if SMOKE else 18)
            processes = [
                subprocess.Popen([sys.executable, str(HERE), "--worker", kind, "--from", str(start), "--seconds", str(seconds), *(["--smoke"] if SMOKE else [])],
                                 stdout=subprocess.PIPE, text=True)
                for _ in range(count)
            ]
            rates = []
            try:
                for process in processes:
                    said, _ = process.communicate(timeout=300 if SMOKE else 40)
                    rates += [float(line.split()[1]) for line in said.splitlines() if line.startswith("rate ")]
            finally:
                for process in processes:
                    process.kill()
            out.put(f"mini {kind}, {count} at once", {"windows_s each": [round(r) for r in rates], "together": round(sum(rates))})


def worker(kind: str, begin: float, seconds: float) -> None:
    size = "tiny" if SMOKE else "mini"
    step: Any = GraphStep(size, precision="bf16") if kind == "graph" else ours("predictor", size, micro=64, precision="fp32" if SMOKE else "bf16")
    for _ in range(2 if SMOKE else 5):
        step()
    sync()
    time.sleep(max(0.0, begin - time.time()))
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(1 if SMOKE else 10):
            step()
            count += 1
        sync()
    print(f"rate {count * BATCH / (time.perf_counter() - began)}")


# --------------------------------------------------------------------------------------------------------------- main

RUN: dict[str, Callable[[Out], None]] = {
    "env": env,
    "tests": tests,
    "correct": correct,
    "steps_mini": lambda out: steps("mini", out, compiled=True),
    "steps_small": lambda out: steps("small", out, compiled=True, count=10),
    "product": product,
    "generation": generation,
    "steps_base": lambda out: steps("base", out, compiled=False, count=8),
    "tokenizer": tokenizer,
    "packing": packing,
}


def main() -> int:
    global SMOKE, LOOKBACK, HORIZON
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=450)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--section")
    parser.add_argument("--worker")
    parser.add_argument("--from", dest="begin", type=float)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    SMOKE = options.smoke
    if SMOKE:
        LOOKBACK, HORIZON = 20, 5
    if options.worker:
        worker(options.worker, options.begin, options.seconds)
        return 0
    if options.section:
        RUN[options.section](Out(options.out / f"{options.section}.json"))
        return 0
    began, results = time.monotonic(), {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parts:
        for name in options.only.split(","):
            limit, least = SECTIONS[name]
            left = options.budget - (time.monotonic() - began)
            if left < least:
                results[name] = {"skipped": f"{left:.0f} s left"}
                continue
            print(f"== {name} (at {time.monotonic() - began:.0f} s)", flush=True)
            command = [sys.executable, str(HERE), "--section", name, "--out", parts, *(["--smoke"] if SMOKE else [])]
            try:
                code: object = subprocess.run(
                    command, timeout=min(limit * (10 if SMOKE else 1), left), env=os.environ | {"TMPDIR": parts}
                ).returncode
            except subprocess.TimeoutExpired:
                code = "timeout"
            part = Path(parts) / f"{name}.json"
            results[name] = (json.loads(part.read_text()) if part.exists() else {}) | {"exit": code}
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "check.json").write_text(json.dumps(results, indent=1))
    print("\n" + table(results))
    return 0


def table(results: dict[str, Any]) -> str:
    lines = [f"{'step':58} {'ms':>9} {'host ms':>9} {'windows/s':>10} {'x upstream':>10}"]
    for section in results.values():
        for name, value in section.items():
            if isinstance(value, dict) and "ms" in value and "x" in value:
                lines.append(f"{name:58} {value['ms']:9.2f} {value['host_ms']:9.2f} {value['windows_s']:10,} {value['x']:10.2f}")
    lines.append("sections: " + ", ".join(f"{name} {value.get('exit', value.get('skipped'))}" for name, value in results.items()))
    return "\n".join(lines)


SMOKE = False
if __name__ == "__main__":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or deterministic mode refuses every matrix product
    sys.exit(main())
