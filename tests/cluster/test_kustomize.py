"""What kustomize makes of models with the shipped configuration: renamed objects and images are followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane
from shell import Shell

from kronos_operator.cli import main
from kronos_operator.loading import load_models

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "manifests/kustomize"
GITOPS = REPOSITORY / "manifests/gitops"
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


@pytest.mark.parametrize("environment", ["research", "production"])
def test_an_environment_of_the_gitops_example_is_valid_models_of_one_namespace(
    environment: str, tmp_path: Path
) -> None:
    found = build(GITOPS / "overlays" / environment)
    assert {body["metadata"]["namespace"] for bodies in found.values() for body in bodies} == {f"kronos-{environment}"}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump_all(found["KronosModel"]))
    models = {one.model.metadata.name: one.model.spec for one in load_models([tmp_path / "models.yaml"])}
    assert set(models) == {"fx-4h", "stocks-1d"}
    claims = {claim["metadata"]["name"] for claim in found["PersistentVolumeClaim"]}
    (job,) = found["CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    named = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume}
    assert named <= claims and {spec.storage.claim.name for spec in models.values()} <= claims


def test_the_page_shows_one_environment_and_applies_the_other(cluster: ControlPlane, shell: Shell) -> None:
    shown = shell("kubectl kustomize manifests/gitops/overlays/production")
    assert {one["metadata"]["namespace"] for one in yaml.safe_load_all(shown)} == {"kronos-production"}
    shell("kubectl create namespace kronos-research")
    shell("kubectl apply --server-side -k manifests/gitops/overlays/research")
    models = cluster.request("GET", "/apis/kronos.io/v1alpha1/namespaces/kronos-research/kronosmodels")["items"]
    assert {one["metadata"]["name"]: one["spec"]["predictor"]["epochs"] for one in models} == {
        "fx-4h": 5,
        "stocks-1d": 5,
    }
    shell("kubectl delete namespace kronos-research --wait=false")


def test_a_change_of_the_base_is_told_for_the_environment_that_it_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Path(os.environ.get("KRONOS_CACHE", "~/.cache/kronos-operator")).expanduser()
    monkeypatch.setenv("PATH", f"{cache / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GITOPS, tmp_path, dirs_exist_ok=True)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "models"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    file = Path("base/stocks-1d.yaml")
    file.write_text(file.read_text().replace('revision: "2026-11-20"', 'revision: "2026-11-27"'))
    production = Path("overlays/production/kustomization.yaml")
    production.write_text(production.read_text() + "namePrefix: eu-\n")
    for environment, changed in (("research", {"stocks-1d": "changed", "fx-4h": "unchanged"}), ("production", None)):
        assert main(["diff", f"overlays/{environment}", "--against", "HEAD", "--json"]) == 0
        found = {one["model"].partition("/")[2]: one["change"] for one in json.loads(capsys.readouterr().out)}
        prefixed = {"eu-stocks-1d": "new", "eu-fx-4h": "new", "stocks-1d": "removed", "fx-4h": "removed"}
        assert found == (changed or prefixed)
