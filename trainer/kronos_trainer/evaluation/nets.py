"""The nets that an evaluation compares: the run's own, those that it started from, and those published now."""

from __future__ import annotations

from dataclasses import dataclass, field

from kronos_trainer.config import RunPaths, StageName, StageResult, load_run
from kronos_trainer.errors import TrainerError
from kronos_trainer.evaluation.document import PUBLISHED, START
from kronos_trainer.evaluation.forecasting import NetForecaster
from kronos_trainer.evaluation.incumbent import refusal
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.published import Weights, weights_below
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_net, load_net
from kronos_trainer.storage.lineage import UNKNOWN, latest, pretrained_until
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.task import Work

_TOKENIZER, _PREDICTOR = StageName.with_weights()


@dataclass(frozen=True, kw_only=True)
class Nets:
    """A pair of nets, ready to forecast."""

    forecaster: NetForecaster
    label: str
    key: str


@dataclass
class Contenders:
    """Loads the nets; whichever cannot be compared is refused, with the reason."""

    work: Work
    test: tuple[str, str]  # first instant that is forecast, first instant after the test span
    incumbent: str  # the run published now; empty: none, or this one
    refused: dict[str, str] = field(default_factory=dict)  # by rival
    unfair: dict[str, str] = field(default_factory=dict)  # nets that know other bars than the run's, by rival

    def finetuned(self) -> Nets:
        """The run's own. Raises TrainerError."""
        directories = [self.work.weights(stage) for stage in (_TOKENIZER, _PREDICTOR)]
        weights = Weights(tokenizer=directories[0], predictor=directories[1])
        return self._loaded(weights, "this run's model", "finetuned")

    def start(self) -> Nets | None:
        """The initial weights of both nets."""
        run, paths = self.work.run, self.work.paths
        if not any(config.epochs for config in run.weights_stages().values()):
            self.refused[START] = "nothing was trained: the model is what it started from"
            return None
        try:
            with heartbeat(self.work.progress.beat):
                tokenizer, predictor = (
                    initial_net(
                        kind,
                        run.weights_stages()[stage].init,
                        run.training.seed,
                        lambda stage=stage: published_weights(run, paths, stage),  # type: ignore[misc]
                    )
                    for kind, stage in ((TOKENIZER, _TOKENIZER), (PREDICTOR, _PREDICTOR))
                )
        except TrainerError as error:
            self.refused[START] = f"the weights it started from cannot be loaded: {error}"
            return None
        origin = f"{tokenizer.origin} + {predictor.origin}"
        return Nets(
            forecaster=self._forecaster(tokenizer.model, predictor.model),
            label=f"what it started from: {origin}",
            key=origin,
        )

    def published(self) -> Nets | None:
        """Those published now, unless they are this run's, or were trained on the test span."""
        if not self.incumbent:
            return None
        run, paths = self.work.run, self.work.paths
        theirs = RunPaths(paths.root, run.model, self.incumbent)
        try:
            config = load_run(theirs.stage(_PREDICTOR).config)
            results = [found for stage in StageName.with_weights() if (found := theirs.stage(stage).completed())]
            reason = refusal(
                self.test,
                ours=run,
                digest=self.work.bars.digest,
                published=config,
                results=[result for result in results if result.epochs],
            )
            if reason:
                self.refused[PUBLISHED] = reason
                return None
            self._compare_lineage(results)
            return self._loaded(
                weights_below(paths.model_dir), f"run {self.incumbent}, published now", f"run {self.incumbent}"
            )
        except (TrainerError, ValueError) as error:
            self.refused[PUBLISHED] = f"run {self.incumbent} cannot be loaded: {error}"
            return None

    def contaminated(self) -> str:
        """Why the test span is not out of sample for the run's model; empty where it is."""
        until = self.pretrained_until()
        if until == UNKNOWN:
            return (
                "nobody has said which bars its initial weights have seen: set evaluation.pretrainedUntil to compare "
                "it with baselines"
            )
        if self.test[0] < until:
            return f"its initial weights may have seen bars until {until}, and the test span begins on {self.test[0]}"
        return ""

    def pretrained_until(self) -> str:
        """First day that neither of the initial weights has seen; `unknown`, or empty for random ones."""
        run, paths = self.work.run, self.work.paths
        return latest(*(pretrained_until(run, paths, stage) for stage in StageName.with_weights()))

    def _compare_lineage(self, results: list[StageResult]) -> None:
        """Both may have seen the test span; it is unfair where only one has, or nobody knows."""
        theirs = latest(*(result.pretrained_until for result in results))
        ours = self.pretrained_until()
        seen = [until == UNKNOWN or self.test[0] < until for until in (ours, theirs)]
        if any(seen) and ours != theirs:
            self.unfair[PUBLISHED] = (
                f"its initial weights have seen bars until {ours or 'none'}, and those of run {self.incumbent} until "
                f"{theirs or 'none'}"
            )

    def _loaded(self, weights: Weights, label: str, key: str) -> Nets:
        with heartbeat(self.work.progress.beat):
            nets = load_net(TOKENIZER, weights.tokenizer), load_net(PREDICTOR, weights.predictor)
        return Nets(forecaster=self._forecaster(*nets, trained=weights), label=label, key=key)

    def _forecaster(
        self, tokenizer: KronosTokenizer, predictor: KronosPredictor, trained: Weights | None = None
    ) -> NetForecaster:
        """`trained` are weights that know how they were trained."""
        run = self.work.run
        window, clip = run.window, run.data.clip
        if trained is not None and trained.window is not None:
            window, clip = trained.window, trained.reading.clip
        drawer = Drawer(tokenizer, predictor, max_context=window.max_context, clip=clip, device=self.work.ranks.device)
        return NetForecaster(drawer=drawer, lookback=window.lookback, horizon=run.window.horizon)
