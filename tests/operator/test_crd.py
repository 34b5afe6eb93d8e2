"""The generated CustomResourceDefinition: current, structural, and bounded everywhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kronos_operator.crd import crd_yaml, custom_resource_definition, structural

CRD = Path(__file__).parents[2] / "manifests" / "crd.yaml"
FORBIDDEN = {
    "$ref", "$defs", "definitions", "title", "const", "oneOf", "allOf", "not", "propertyNames", "patternProperties",
    "prefixItems", "uniqueItems", "dependencies", "deprecated", "discriminator", "readOnly", "examples",
}  # fmt: skip


def root() -> dict[str, Any]:
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert isinstance(schema, dict)
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


def at(path: str) -> dict[str, Any]:
    return dict(nodes(root()))[path]


def test_crd_is_current() -> None:
    assert CRD.read_text() == crd_yaml(), "run `kronos crd > manifests/crd.yaml`"


def test_crd_yaml_reads_back_as_the_definition() -> None:
    assert yaml.safe_load(crd_yaml()) == custom_resource_definition()


def test_schema_is_structural() -> None:
    seen = 0
    for path, node in nodes(root()):
        seen += 1
        assert not FORBIDDEN & node.keys(), path
        if node.get("x-kubernetes-int-or-string"):
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}] and "type" not in node, path
        else:
            assert isinstance(node["type"], str) and "anyOf" not in node, path
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            assert isinstance(node.get(bound, False), bool), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert set(node.get("required", [])) <= node.get("properties", {}).keys(), path
        assert node.get("default", 0) is not None, path
    assert seen > 250


def test_every_list_map_and_string_is_bounded_and_every_field_described() -> None:
    for path, node in nodes(root()):
        match node.get("type"):
            case "array":
                assert node["maxItems"] <= 100, path
            case "string":
                assert node.keys() & {"maxLength", "enum"} or node["format"] == "date-time", path
            case "object":
                assert "properties" in node or node["maxProperties"] <= 64, path
            case None:
                assert node["maxLength"] <= 64, path
        if not path.endswith("[]"):
            assert node["description"], path


def test_defaults_of_parents_equal_those_of_their_fields() -> None:
    for path, node in nodes(root()):
        for name, value in node.get("default", {}).items() if node.get("type") == "object" else ():
            child = node["properties"][name]
            assert "default" not in child or child["default"] == value or child["type"] == "object", f"{path}.{name}"
    assert at(".spec.window")["default"] == {"lookback": 90, "horizon": 10, "maxContext": 512}
    assert at(".spec.data.split")["default"] == {"fractions": {"train": 0.8, "validation": 0.1, "test": 0.1}}
    assert at(".status")["default"] == {"observedGeneration": -1}


def test_no_alternative_has_a_default_that_would_stand_beside_the_chosen_one() -> None:
    checked = 0
    for path, node in nodes(root()):
        if any("exactly one of" in rule["message"] for rule in node.get("x-kubernetes-validations", [])):
            checked += 1
            assert not any("default" in child for child in node["properties"].values()), path
    assert checked >= 6


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "self.metadata.name"),
        (".spec", "has(self.storage)"),
        (".spec.timeframe", "self == oldSelf"),
        (".spec.data.source", "[has(self.claim), has(self.path), has(self.uri)].filter(x, x).size() == 1"),
        (".spec.data.split.fractions", "self.train + self.validation + self.test"),
        (".spec.window", "self.lookback + self.horizon <= self.maxContext"),
        (".spec.tokenizer", "self.epochs > 0 || !has(self.init.scratch)"),
        (".spec.resources", "quantity(string(self.sharedMemory)).compareTo(quantity(string(self.memory))) <= 0"),
        (".spec.podTemplate.env", "!e.name.startsWith('PET_')"),
        (".spec.podTemplate.env", "e.name in ['RANK', 'WORLD_SIZE']"),
        (".spec.podTemplate.labels", "!k.startsWith('batch.kubernetes.io/')"),
        (".spec.podTemplate.annotations", "!k.startsWith('kronos.io/')"),
    ],
)
def test_rule_reaches_the_crd(path: str, rule: str) -> None:
    assert any(rule in one["rule"] and one["message"] for one in at(path)["x-kubernetes-validations"])


def test_columns_names_and_lists_with_keys() -> None:
    spec = custom_resource_definition()["spec"]
    columns = spec["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if column["priority"] == 0]
    assert shown == ["Phase", "Stage", "Progress", "ETA", "Ready", "Verdict", "Reason", "Attempt", "Age"]
    assert [column["name"] for column in columns if column["priority"]] == ["Loss", "GPUs", "Run"]
    for column in columns:
        path = column["jsonPath"].split("[?")[0]
        assert path.startswith(".metadata") or path in dict(nodes(root())), column
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["km"], ["ml"])
    assert at(".status.conditions")["x-kubernetes-list-map-keys"] == ["type"]
    assert spec["versions"][0]["subresources"] == {"status": {}}


def test_a_union_is_refused_rather_than_guessed() -> None:
    class Loose(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="union has no structural form"):
        structural(Loose.model_json_schema())
