"""The kinds of nets: the class of each, its keys in config.json, and its architectures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kronos_trainer.model.predictor import KronosPredictor, PredictorConfig
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.tokenizer import KronosTokenizer, TokenizerConfig

Config = TypeVar("Config", TokenizerConfig, PredictorConfig)
Net = TypeVar("Net", KronosTokenizer, KronosPredictor)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Net, Config]):
    """One kind of net; `upstream` is the name of upstream's class."""

    name: str
    upstream: str
    net: Callable[[Config], Net]
    config: type[Config]
    sizes: Mapping[str, Config]


TOKENIZER = Kind(
    name="tokenizer", upstream="KronosTokenizer", net=KronosTokenizer, config=TokenizerConfig, sizes=TOKENIZERS
)
PREDICTOR = Kind(name="predictor", upstream="Kronos", net=KronosPredictor, config=PredictorConfig, sizes=PREDICTORS)
