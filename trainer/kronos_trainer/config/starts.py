"""What a model of each size starts from, as `kronos init` writes it and `kronos quickstart` proposes it."""

from __future__ import annotations

from dataclasses import dataclass

from kronos_trainer.config.spec import (
    Hub,
    PredictorInit,
    PredictorScratch,
    PredictorStage,
    TokenizerInit,
    TokenizerScratch,
    TokenizerStage,
)


@dataclass(frozen=True, kw_only=True)
class Start:
    """First weights and learning rates of a size; `remark` explains a rate that is not the default.

    `max_context` is the longest context of the weights, in bars.
    """

    about: str
    tokenizer: TokenizerStage
    predictor: PredictorStage
    max_context: int = 512
    remark: str = ""


_TOKENIZER = TokenizerStage(
    init=TokenizerInit(
        hub=Hub(repo="NeoQuasar/Kronos-Tokenizer-base", revision="0e0117387f39004a9016484a186a908917e22426")
    )
)


def _released(repo: str, revision: str | None = None) -> PredictorStage:
    return PredictorStage(init=PredictorInit(hub=Hub(repo=f"NeoQuasar/{repo}", revision=revision)))


STARTS = {
    "tiny": Start(
        about="random weights, minutes on a CPU: to try things out",
        tokenizer=TokenizerStage(init=TokenizerInit(scratch=TokenizerScratch(size="tiny")), learning_rate=1e-3),
        predictor=PredictorStage(init=PredictorInit(scratch=PredictorScratch(size="tiny")), learning_rate=1e-3),
        remark="learningRate: random weights have a long way to go; the default is for released ones",
    ),
    "mini": Start(
        about="4 M parameters, pretrained, long context",
        tokenizer=TokenizerStage(init=TokenizerInit(hub=Hub(repo="NeoQuasar/Kronos-Tokenizer-2k"))),
        predictor=_released("Kronos-mini"),
        max_context=2048,
    ),
    "small": Start(
        about="25 M parameters, pretrained",
        tokenizer=_TOKENIZER,
        predictor=_released("Kronos-small", "901c26c1332695a2a8f243eb2f37243a37bea320"),
    ),
    "base": Start(about="102 M parameters, pretrained", tokenizer=_TOKENIZER, predictor=_released("Kronos-base")),
    "large": Start(
        about="499 M parameters, random weights: none are published",
        tokenizer=_TOKENIZER,
        predictor=PredictorStage(init=PredictorInit(scratch=PredictorScratch(size="large")), learning_rate=2e-4),
        remark="learningRate: the paper's for pretraining this size; the default is for released weights",
    ),
}

# Overrides, as for --set, that make any model a quick trial on a CPU without the hub; `make demo` uses the same.
TRIAL = (
    "tokenizer.init.scratch.size=tiny",
    "tokenizer.epochs=4",
    "tokenizer.batchSize=32",
    "tokenizer.learningRate=1e-3",
    "predictor.init.scratch.size=tiny",
    "predictor.epochs=3",
    "predictor.batchSize=32",
    "predictor.learningRate=2e-3",
    "training.windowsPerEpoch=640",
    "training.validationWindows=256",
)
