"""Stage hashes and run ids: two runs with the same hash train the same thing. Called by plan and by both executors.

What enters a stage's hash: the timeframe, the data, the window, what the stages share, the stage's own part, the
hashes of the stages before it, and the numerics version. Fields that equal their default are left out, so that a new
field changes no hash, and so are those of what stages share that do not concern this one. What never enters: image,
resources, storage, Comet, retry, checkpoint policy and `data.calendar`, for they change no number that is trained.

The bars enter by where they are (`data.source`) and by `data.revision`. Where the digest of their bytes is known it
stands in for the source, so that moving them trains nothing anew; it is taken where no revision is given. The same
holds for directories of initial weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from kronos_operator.api import Spec
from kronos_trainer.config import NUMERICS_VERSION, StageName

# What an attempt is built from beyond the numbers it trains; how it is watched or when it starts is not in the list.
_TEMPLATE = ("image", "checkpoint", "comet", "resources", "storage", "backend", "hub_token_secret", "pod_template")


@dataclass(frozen=True, kw_only=True)
class Digests:
    """Contents that are known by their bytes; empty in a cluster, where the operator sees no volume."""

    bars: str | None = None
    weights: Mapping[StageName, str] = field(default_factory=dict)


def stage_hashes(spec: Spec, digests: Digests | None = None) -> dict[StageName, str]:
    """The hash of every stage that the model has, 16 hex digits each, in the order in which stages run."""
    known = digests or Digests()
    shared = {
        "numerics": NUMERICS_VERSION,
        "timeframe": spec.timeframe.value,
        "data": _data(spec, known),
        "window": _set_fields(spec.window),
    }
    hashes: dict[StageName, str] = {}
    for stage in StageName:
        config = spec.config_of(stage)
        if config is None or not (config.runs or stage.has_weights):
            continue
        own = _set_fields(config)
        if stage in known.weights:
            own["init"] = {"digest": known.weights[stage]}
        if not config.runs:
            # Weights that are used as they are depend on nothing that training reads.
            content: dict[str, Any] = {"numerics": NUMERICS_VERSION, "stage": stage, "init": own.get("init", {})}
        else:
            content = {
                **shared,
                "stage": stage,
                "config": own,
                "training": _set_fields(spec.training, frozenset() if config.forecasts else spec.training.of_forecasts),
                "before": [value for before, value in hashes.items() if before.has_weights],
                **({} if stage.has_weights else {"promotion": _set_fields(spec.promotion), **_looked_at(spec)}),
            }
        hashes[stage] = _digest(content)[:16]
    return hashes


def template_hash(spec: Spec) -> str:
    """Hash of what shapes an attempt without changing what it trains: a change of it applies at the next attempt."""
    parts = {name: getattr(spec, name) for name in _TEMPLATE}
    content = {name: _set_fields(part) if isinstance(part, BaseModel) else part for name, part in parts.items()}
    return _digest(content)[:16]


def run_id(hashes: Mapping[StageName, str], trigger: str = "") -> str:
    """Id of the run that trains these stages for this trigger: 8 hex digits, fit for a DNS label.

    Scores are of a run, and do not make another one.
    """
    return _digest({"stages": trained(hashes), "trigger": trigger})[:8]


def trained(hashes: Mapping[StageName, str]) -> dict[StageName, str]:
    """The hashes of the stages that produce weights."""
    return {stage: value for stage, value in hashes.items() if stage.has_weights}


def _data(spec: Spec, digests: Digests) -> dict[str, Any]:
    data = _set_fields(spec.data)
    data.pop("calendar", None)  # it names the times of forecasts
    data.pop("covariates", None)  # they are looked at beside them
    if digests.bars is not None:
        data["source"] = {"digest": digests.bars}
    return data


def _looked_at(spec: Spec) -> dict[str, Any]:
    """What a stage that scores reads beside the bars."""
    found = [_set_fields(one) for one in spec.data.covariates]
    return {"covariates": found} if found else {}


def _set_fields(part: BaseModel, apart: frozenset[str] = frozenset()) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(apart))


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
