"""What a run was begun with, kept in an immutable ConfigMap: a newer spec must not change a run that is to finish."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kronos_operator import names
from kronos_operator.api import KronosModel, Spec
from kronos_operator.manifests.attempt import Manifest, owned, run_labels
from kronos_trainer.config import RunConfig

# What the trainer gets of the spec, but for what applies from the next attempt on.
_LIVE = ("checkpoint", "comet", "progress")
_FROZEN = [name for name in RunConfig.model_fields if name in Spec.model_fields and name not in _LIVE]


def run_config_map(model: KronosModel, uid: str, run_id: str, image: str) -> Manifest:
    """The ConfigMap `<model>-<run>`: the training part of all stages and the image, which is `image` unless named."""
    content = {
        "image": model.spec.image or image,
        "namedImage": model.spec.image,
        "spec": model.spec.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(_FROZEN)),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned(
            model, uid, names.run_config_map_name(model.metadata.name, run_id), run_labels(model, run_id)
        ),
        "immutable": True,
        "data": {names.FROZEN_FILE: json.dumps(content, indent=2) + "\n"},
    }


def frozen(config_map: Mapping[str, Any], live: KronosModel) -> KronosModel:
    """What the run's next attempt is built from: trained parts and image as frozen, the rest from the live spec.

    The frozen image outlives a change of the operator's default. Another image alone, with nothing else to train, is
    taken at once: it must be possible to mend an image that cannot be pulled.
    """
    content = json.loads(config_map["data"][names.FROZEN_FILE])
    whole = live.spec.model_dump(mode="json", by_alias=True, exclude_none=True) | content["spec"]
    # An operator that was rolled back reads what a newer one has frozen.
    spec = Spec.model_validate(whole, extra="ignore")
    same = all(getattr(spec, name) == getattr(live.spec, name) for name in _FROZEN)
    mended = same and live.spec.image != content["namedImage"]
    image = live.spec.image if mended else content["image"]
    return live.model_copy(update={"spec": spec.model_copy(update={"image": image})})
