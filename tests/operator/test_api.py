"""The KronosModel classes: documented throughout, lenient towards a newer API, and one with the trainer's config."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from pydantic import BaseModel, ValidationError

from kronos_operator.api import KronosModel, Spec, quantity
from kronos_operator.fields import bare_type, is_model
from kronos_operator.names import MODEL_NAME_LENGTH, child_name
from kronos_trainer.config import RunConfig, StageName

BODY = {
    "apiVersion": "kronos.io/v1alpha1",
    "kind": "KronosModel",
    "metadata": {"name": "model-b-1d", "namespace": "quant", "managedFields": [{"manager": "kubectl"}]},
    "spec": {
        "timeframe": "1d",
        "data": {"source": {"claim": {"name": "bars", "subPathExpr": "from a newer API"}}},
        "predictor": {"batchSize": 7, "microBatchSize": 7, "somethingNew": True},
        "comet": {"project": "p", "tags": ["t"], "apiKeySecret": {"name": "comet", "key": "api-key"}},
    },
    "status": {"observedGeneration": 2, "phase": "Training", "somethingNew": 1},
}


def classes_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for info in model.model_fields.values():
        pending = [info.annotation]
        while pending:
            annotation = bare_type(pending.pop())
            if is_model(annotation):
                yield from classes_below(annotation)
            else:
                pending += getattr(annotation, "__args__", ())


@pytest.mark.parametrize("model", [KronosModel, RunConfig])
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    found = {one: one.model_fields for one in classes_below(model)}
    assert len(found) > 15
    bare = [
        f"{one.__name__}.{name}"
        for one, fields in found.items()
        for name, info in fields.items()
        if not info.description
    ]
    assert bare == []


def test_the_operator_ignores_fields_of_a_newer_api_at_any_depth() -> None:
    model = KronosModel.from_server(BODY)
    assert model.status is not None
    assert (model.spec.predictor.batch_size, model.status.observed_generation) == (7, 2)
    with pytest.raises(ValidationError, match="somethingNew"):
        KronosModel.model_validate(BODY)


def test_every_part_of_the_spec_that_the_trainer_knows_reaches_it_unchanged() -> None:
    spec = KronosModel.from_server(BODY).spec
    run = RunConfig(
        **spec.run_fields(),
        model=KronosModel.from_server(BODY).ref,
        run="r1",
        stage=StageName.PREDICTOR,
        stage_hashes={StageName.PREDICTOR: "0" * 8},
        publish=True,
        bars="/bars",
        output="/out",
    )
    assert set(spec.run_fields()) == set(RunConfig.model_fields) & set(Spec.model_fields)
    assert run.weights_stage == spec.predictor
    assert "apiKeySecret" not in run.dump() and '"project": "p"' in run.dump()
    assert RunConfig.model_validate_json(run.dump()) == run


def test_quantities_are_compared_by_value() -> None:
    assert [quantity(text) for text in ("500m", "2", "1.5k", "2Ki", "1Gi")] == [
        Decimal("0.5"),
        Decimal(2),
        Decimal(1500),
        Decimal(2048),
        Decimal(2**30),
    ]


def test_a_pod_has_one_process_for_each_gpu_and_one_without() -> None:
    base = BODY["spec"]
    assert isinstance(base, dict)
    sizes = [
        KronosModel.from_server(BODY | {"spec": base | {"resources": resources}}).spec.resources.processes
        for resources in ({}, {"nodes": 2, "gpusPerNode": 8}, {"nodes": 2, "gpusPerNode": 0}, {"processesPerNode": 3})
    ]
    assert sizes == [1, 8, 1, 3]


def test_the_longest_names_of_pods_are_legal() -> None:
    child = child_name("m" * MODEL_NAME_LENGTH, StageName.PREDICTOR, "0123456789", attempt=999)
    assert child.endswith("-pred-01234567-999")
    assert len(f"{child}-worker-255") <= 63
