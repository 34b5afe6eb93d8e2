"""What kustomize makes of models with the shipped configuration: renamed objects and images are followed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "manifests/kustomize"
Object = dict[str, Any]


def build(folder: Path) -> dict[str, list[Object]]:
    """What `kubectl kustomize` prints, by kind."""
    cache = Path(os.environ.get("KRONOS_CACHE", "~/.cache/kronos-operator")).expanduser()
    done = subprocess.run([cache / "bin/kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds: dict[str, list[Object]] = {}
    for body in yaml.safe_load_all(done.stdout):
        kinds.setdefault(body["kind"], []).append(body)
    return kinds


def test_the_shipped_example_is_a_model_whose_names_lead_to_its_own_objects() -> None:
    found = build(SHIPPED)
    (model,) = found["KronosModel"]
    spec = model["spec"]
    claims = {claim["metadata"]["name"] for claim in found["PersistentVolumeClaim"]}
    assert {spec["data"]["source"]["claim"]["name"], spec["storage"]["claim"]["name"]} == claims
    assert all(name.startswith("macro-") for name in claims)
    (secret,) = found["Secret"]
    assert spec["comet"]["apiKeySecret"]["name"] == secret["metadata"]["name"] != "macro-comet"
    assert spec["image"] == "example.org/ml/kronos-trainer:0.1.0"


def test_every_field_that_names_another_object_is_followed(tmp_path: Path) -> None:
    """The fields are read from the definition, so that a new one cannot be forgotten."""
    kinds = {
        "claim": "PersistentVolumeClaim",
        "secret": "Secret",
        "configmap": "ConfigMap",
        "account": "ServiceAccount",
    }
    fields = dict(references())
    assert len(fields) >= 8
    model: Object = {
        "apiVersion": "kronos.io/v1alpha1",
        "kind": "KronosModel",
        "metadata": {"name": "m"},
        "spec": {"image": "trainer"},
    }
    for path, kind in fields.items():
        put(model, path, kinds[kind].lower())
    objects = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": kind.lower()}} for kind in kinds.values()]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([model, *objects]))
    (tmp_path / "kustomizeconfig.yaml").write_text((SHIPPED / "kustomizeconfig.yaml").read_text())
    kustomization = {
        "resources": ["all.yaml"],
        "configurations": ["kustomizeconfig.yaml"],
        "namePrefix": "p-",
        "images": [{"name": "trainer", "newTag": "7"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (renamed,) = build(tmp_path)["KronosModel"]
    missed = [path for path, kind in fields.items() if f"p-{kinds[kind].lower()}" not in values(renamed, path)]
    assert missed == []
    assert renamed["spec"]["image"] == "trainer:7"


def references() -> Iterator[tuple[str, str]]:
    """Paths of the fields of a spec that name another object of the namespace, lists without an index, and its kind."""
    crd = yaml.safe_load((REPOSITORY / "manifests/crd.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    def walk(schema: Object, path: list[str]) -> Iterator[tuple[str, str]]:
        for name, one in schema.get("properties", {}).items():
            parent = path[-1]
            word = re.search(r"(?i)claim|secret|configmap", parent)
            if name == "name" and word:
                yield "/".join([*path, name]), word[0].lower()
            elif name == "serviceAccountName":
                yield "/".join([*path, name]), "account"
            yield from walk(one.get("items", one), [*path, name])

    yield from walk(spec, ["spec"])


def put(body: Object, path: str, value: str) -> None:
    """Sets a field; podTemplate's env and imagePullSecrets are lists, each with one entry for one field."""
    *parents, last = path.split("/")
    here: Any = body
    for step in parents:
        if step in ("env", "imagePullSecrets"):
            here = here.setdefault(step, [])
            here.append({"name": f"E{len(here)}"} if step == "env" else {})
            here = here[-1]
        else:
            here = here.setdefault(step, {})
    here[last] = value


def values(body: Any, path: str) -> list[Any]:
    """What is at a path, in each entry of lists."""
    here = [body]
    for step in path.split("/"):
        here = [one[step] for one in here if step in one]
        here = [entry for one in here for entry in (one if isinstance(one, list) else [one])]
    return here
