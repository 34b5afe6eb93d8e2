from __future__ import annotations

from kronos_operator.api import CheckpointState, Compared, Condition, Evaluated, Phase, Restarts, Run, RunStage, Status
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


def evaluated(*, reason: str, finished: bool = True) -> Status:
    """A status with an evaluation."""
    comparisons = (Compared(rival="naive", improvement=0.031), Compared(rival="published", verdict="NotOutOfSample"))
    evaluation = Evaluated(
        run="r", verdict="Undecided", dates=21, coverage80=0.64, calibrated80=0.81, comparisons=comparisons
    )
    ended = Condition(type="Finished", status=str(finished), reason=reason, last_transition_time=5000.0)
    return Status(phase=Phase.SUCCEEDED, evaluation=evaluation, conditions=[ended])


def test_the_newest_evaluation_of_each_model_is_exposed() -> None:
    metrics = Metrics()
    model = {"namespace": "ns", "model": "m"}

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"kronos_model_{name}", model | labels)

    metrics.saw(KEY, Status(), Status(phase=Phase.TRAINING))
    assert value("evaluation_dates") is None and value("promotion_held") is None
    metrics.saw(KEY, Status(), evaluated(reason="PromotionHeld"))
    assert value("improvement", rival="naive") == 0.031
    assert value("improvement", rival="published") is None, "what was not compared has no number"
    assert (value("verdict", verdict="Undecided"), value("verdict", verdict="Better")) == (1, None)
    assert value("evaluation_dates") == 21
    assert (value("coverage", band="80", calibrated="false"), value("coverage", band="80", calibrated="true")) == (
        0.64,
        0.81,
    )
    assert value("promotion_held") == 5000
    metrics.saw(KEY, Status(), evaluated(reason="Succeeded"))
    assert value("promotion_held") is None, "somebody has promoted it"
    metrics.saw(KEY, Status(), evaluated(reason="PromotionHeld", finished=False))
    assert value("promotion_held") is None
    metrics.forget(KEY)
    assert value("evaluation_dates") is None
