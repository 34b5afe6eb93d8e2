"""A rank that leaves its gradients of one step, and its weights after four, for test_two_ranks.py to compare.

Dropout is off and the sampled coarse ids are the same for every process, so that nothing but the division of the
batch differs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from kronos_trainer.config import RunConfig, StageName, load_run
from kronos_trainer.data.bars import prepare_bars
from kronos_trainer.data.windows import Splits, split_bars
from kronos_trainer.model import predictor
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.batching import plan_batches
from kronos_trainer.training.comet import NullReporter
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.loop import Loop
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.rank import end
from kronos_trainer.training.task import Task
from kronos_trainer.training.tokenizer import TokenizerTask
from kronos_trainer.training.tokens import EncodedTokens
from kronos_trainer.training.transfers import to_device

MICRO_BOTH = 8  # windows of a micro-step, over all processes


def fixed_draw(logits: Tensor) -> Tensor:
    """Coarse ids that depend on the position alone."""
    positions = torch.arange(logits.shape[1], device=logits.device) * 37 % logits.shape[-1]
    return positions.expand(logits.shape[:-1])


def make_stage(name: StageName, splits: Splits, run: RunConfig, ranks: Ranks) -> Task:
    """The stage's task around tiny models without dropout."""
    precision = choose_precision(run.training, ranks.device)
    tokenizer = scratch_net(TOKENIZER, "tiny", seed=1).to(ranks.device)
    if name is StageName.TOKENIZER:
        return TokenizerTask(tokenizer, splits, precision, ranks.mean)
    model = scratch_net(PREDICTOR, "tiny", seed=2).to(ranks.device)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    tokens = EncodedTokens(splits.train, lambda values: tokenizer.encode(to_device(values, ranks.device)))
    return PredictorTask(model, tokens, tokens, precision, upstream_exact=False)


def main(config: Path) -> None:
    """Trains four steps of each stage."""
    base = load_run(config)
    ranks = Ranks.join(gpu_required=False)
    predictor.draw = fixed_draw
    bars = prepare_bars(
        Path(base.bars), base.timeframe, base.data, Path(tempfile.gettempdir()) / str(ranks.rank)
    ).open()
    splits = split_bars(bars, base.data, base.window)
    for name in StageName.with_weights():
        run = base.model_copy(update={"stage": name})
        stage = make_stage(name, splits, run, ranks)
        plan = plan_batches(
            batch_size=16,
            micro_batch_size=MICRO_BOTH // ranks.world,
            device=ranks.device.type,
            world=ranks.world,
            out_of_memory_restarts=0,
        )
        assert plan.micro_steps == 2
        loop = Loop(
            run,
            stage,
            ranks=ranks,
            plan=plan,
            train_windows=len(splits.train),
            validation_windows=torch.zeros(1, dtype=torch.int64),
            steps_per_epoch=4,
            save=lambda **state: None,
            metrics=Metrics(None, NullReporter()),
            progress=Progress(run, silent=True),
            stop_requested=lambda: False,
        )
        batches = torch.arange(64).view(4, 16) * 3
        loop._train_step(batches[0])
        gradients = {key: parameter.grad.clone() for key, parameter in stage.model.named_parameters()}
        for batch in batches[1:]:
            loop._train_step(batch)
        left = {"gradients": gradients, "weights": stage.model.state_dict()}
        torch.save(left, config.with_name(f"{name}-{ranks.rank}of{ranks.world}.pt"))
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
    end(0)
