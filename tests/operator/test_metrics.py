from __future__ import annotations

from kronos_operator.api import CheckpointState, Phase, Restarts, Run, RunStage, Status
from kronos_operator.kube import Key
from kronos_operator.metrics import Metrics
from kronos_trainer.config import StageName

KEY = Key("ns", "m")


def status(phase: Phase, *, crashes: int = 0, done: bool = False) -> Status:
    stage = RunStage(stage=StageName.TOKENIZER, hash="a" * 16, done=done, metrics={"seconds": 90.0} if done else {})
    return Status(
        phase=phase,
        run=Run(id="r", stages=(stage,), restarts=Restarts(crashes=crashes)),
        checkpoint=CheckpointState(step=1, time=1000.0),
    )


def test_what_is_counted() -> None:
    metrics = Metrics(lambda: 3, now=lambda: 1060.0)
    value = metrics.registry.get_sample_value
    first, second = status(Phase.TRAINING), status(Phase.RESTARTING, crashes=2, done=True)
    metrics.saw(KEY, Status(), first)
    assert value("kronos_models", {"namespace": "ns", "phase": "Training"}) == 1
    assert value("kronos_checkpoint_age_seconds", {"namespace": "ns", "model": "m"}) == 60
    assert value("kronos_queue_depth") == 3
    metrics.saw(KEY, first, second)
    metrics.saw(KEY, second, second)
    assert value("kronos_models", {"namespace": "ns", "phase": "Training"}) == 0
    # What does not train saves nothing: its age says nothing.
    assert value("kronos_checkpoint_age_seconds", {"namespace": "ns", "model": "m"}) is None
    assert value("kronos_restarts_total", {"namespace": "ns", "cause": "crash"}) == 2
    assert value("kronos_stage_duration_seconds_sum", {"stage": "tokenizer"}) == 90

    for now, running in ((0.0, True), (1800.0, True), (3600.0, False), (7200.0, True)):
        metrics.used(KEY, 4, now, running=running)
    assert value("kronos_gpu_hours_total", {"namespace": "ns", "model": "m"}) == 2
    metrics.forget(KEY)
    assert value("kronos_gpu_hours_total", {"namespace": "ns", "model": "m"}) is None
    assert value("kronos_checkpoint_age_seconds", {"namespace": "ns", "model": "m"}) is None
    assert value("kronos_models", {"namespace": "ns", "phase": "Restarting"}) is None
