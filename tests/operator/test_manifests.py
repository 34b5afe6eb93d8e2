"""The objects of a run against golden files; `python tests/operator/test_manifests.py` writes those anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.backends import BACKENDS, backend_of
from kronos_operator.manifests import AttemptTemplate, Manifest, frozen, local_paths, run_config_map
from kronos_operator.plan import StartAttempt
from kronos_trainer.config import ExitCode, Reuse, RunConfig, StageName, load_run

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())
UID = "0f1e2d3c-0000-4000-8000-000000000000"
IMAGE = "registry.example.com/kronos/trainer:default"
RUN = "3c0ffee3"
HASHES = dict(zip(StageName, ("0123456789abcdef", "fedcba9876543210", "00112233445566ff"), strict=True))

TOKENIZER = StartAttempt(
    run=RUN,
    stage=StageName.TOKENIZER,
    attempt=0,
    stage_hashes=HASHES,
    out_of_memory_restarts=0,
    publish=False,
)
PREDICTOR = replace(
    TOKENIZER,
    stage=StageName.PREDICTOR,
    attempt=7,
    out_of_memory_restarts=1,
    reuse={StageName.TOKENIZER: Reuse(run="0ddba115", hash=HASHES[StageName.TOKENIZER])},
)
EVALUATION = replace(TOKENIZER, stage=StageName.EVALUATION, attempt=2, publish=True)


def body(case: str) -> dict[str, Any]:
    content = yaml.safe_load((GOLDEN / case / "model.yaml").read_text())
    assert isinstance(content, dict)
    return content


def model(case: str, **changes: object) -> KronosModel:
    """The model of a case, with fields of its spec replaced."""
    content = body(case)
    content["spec"] |= changes
    return KronosModel.model_validate(content)


def attempt(case: str, **changes: object) -> AttemptTemplate:
    start = EVALUATION if "-evaluation" in case else PREDICTOR if "-1-node" in case else TOKENIZER
    return AttemptTemplate(model=model(case, **changes), uid=UID, start=start, image=IMAGE)


def children(subject: AttemptTemplate) -> list[Manifest]:
    return BACKENDS[subject.model.spec.backend].build(subject)


def rendered(case: str) -> str:
    subject = attempt(case)
    objects = [run_config_map(subject.model, UID, RUN, IMAGE), *children(subject)]
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Repeats what is repeated, and writes texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def workload(subject: AttemptTemplate) -> dict[str, Any]:
    return children(subject)[-1]


def pod(subject: AttemptTemplate) -> dict[str, Any]:
    """Spec of the gang's pods."""
    spec = workload(subject)["spec"]
    template = spec["template"] if "template" in spec else spec["pytorchReplicaSpecs"]["Master"]["template"]
    result = template["spec"]
    assert isinstance(result, dict)
    return result


def environment(subject: AttemptTemplate) -> dict[str, Any]:
    (container,) = pod(subject)["containers"]
    variables = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}
    assert len(variables) == len(container["env"]), "a variable is given twice"
    return variables


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    expected = (GOLDEN / case / "children.yaml").read_text()
    assert rendered(case) == expected, "run `python tests/operator/test_manifests.py` and read the difference"


@pytest.mark.parametrize("case", CASES)
def test_objects_of_an_attempt_share_name_owner_and_labels(case: str) -> None:
    subject = attempt(case)
    objects = children(subject)
    for one in objects:
        metadata = one["metadata"]
        assert metadata["name"] == names.child_name(
            subject.model.metadata.name, subject.start.stage, HASHES[subject.start.stage], subject.start.attempt
        )
        assert metadata["namespace"] == "quant"
        assert subject.labels.items() <= metadata["labels"].items()
        (owner,) = metadata["ownerReferences"]
        assert owner["controller"] is True and owner["uid"] == UID and "blockOwnerDeletion" not in owner
    assert [one["kind"] for one in objects[:-1]] == (
        ["ConfigMap", "Service"] if case.startswith("job-2") else ["ConfigMap"]
    )


@pytest.mark.parametrize("case", CASES)
def test_the_trainer_reads_what_was_asked_for(case: str, tmp_path: Path) -> None:
    subject = attempt(case)
    file = tmp_path / "run.json"
    file.write_text(children(subject)[0]["data"][names.RUN_CONFIG_FILE])
    run = load_run(file)
    assert run == subject.run_config
    spec = subject.model.spec
    for name in ("data", "window", "tokenizer", "predictor", "training"):
        assert getattr(run, name) == getattr(spec, name)
    assert run.gpu_required == ("gpu" in case)
    assert pod(subject)["terminationGracePeriodSeconds"] == run.grace_seconds


def test_a_new_hyper_parameter_reaches_the_trainer_unnamed() -> None:
    subject = attempt("job-2-nodes-cpu", predictor={"batchSize": 7, "microBatchSize": 7, "learningRate": 0.125})
    written = RunConfig.model_validate_json(children(subject)[0]["data"][names.RUN_CONFIG_FILE])
    assert (written.predictor.batch_size, written.predictor.learning_rate) == (7, 0.125)


@pytest.mark.parametrize("name", ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"])
def test_a_slice_or_a_share_of_a_gpu_is_asked_for_by_its_name(name: str) -> None:
    subject = attempt("job-1-node-gpu", resources={"gpusPerNode": 1, "gpuResourceName": name})
    (container,) = pod(subject)["containers"]
    assert container["resources"] == {"requests": {name: "1"}, "limits": {name: "1"}}
    assert subject.run_config.gpu_required


def test_any_failure_ends_the_gang_and_is_told_by_the_first_matching_rule() -> None:
    spec = workload(attempt("job-2-nodes-cpu"))["spec"]
    assert spec["completions"] == spec["parallelism"] == 2
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    first, second, third = spec["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in (first, second, third)} == {"FailJob"}
    assert first["onExitCodes"]["values"] == [64, 65, 66, 70, 71, 72, 78]
    assert second["onExitCodes"]["values"] == [ExitCode.STOPPED]
    assert third["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_nodes_meet_at_index_0_through_the_service() -> None:
    subject = attempt("job-2-nodes-cpu")
    _, service, job = children(subject)
    variables = environment(subject)
    host, domain = variables["PET_MASTER_ADDR"].split(".")
    assert host == f"{job['metadata']['name']}-0"
    assert domain == service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert variables["PET_MASTER_PORT"] == str(service["spec"]["ports"][0]["port"])
    assert variables["PET_NODE_RANK"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")
    assert (variables["PET_NNODES"], variables["PET_NPROC_PER_NODE"]) == ("2", "1")
    assert (variables["PET_RDZV_BACKEND"], variables["PET_MAX_RESTARTS"]) == ("static", "0")


def test_a_pytorchjob_leaves_to_the_training_operator_what_that_sets() -> None:
    subject = attempt("pytorchjob-2-nodes-cpu")
    spec = workload(subject)["spec"]
    assert spec["nprocPerNode"] == "2"
    assert spec["runPolicy"] == {"cleanPodPolicy": "Running"}
    assert {role: replica["replicas"] for role, replica in spec["pytorchReplicaSpecs"].items()} == {
        "Master": 1,
        "Worker": 1,
    }
    for replica in spec["pytorchReplicaSpecs"].values():
        assert replica["restartPolicy"] == "Never"
        (container,) = replica["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        assert container["ports"] == [{"name": "pytorchjob-port", "containerPort": names.MASTER_PORT}]
    set_by_it = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
    assert not set_by_it & set(environment(subject))
    assert set(workload(attempt("pytorchjob-1-node-gpu"))["spec"]["pytorchReplicaSpecs"]) == {"Master"}


def test_a_pytorchjob_has_no_deadline_of_its_own() -> None:
    limited = {"retry": {"maxRuntimeSeconds": 3600}}
    assert workload(attempt("pytorchjob-2-nodes-cpu", **limited))["spec"]["runPolicy"] == {"cleanPodPolicy": "Running"}
    assert workload(attempt("job-2-nodes-gpu-kueue", **limited))["spec"]["activeDeadlineSeconds"] == 3600


@pytest.mark.parametrize(
    ("case", "pods"), [("job-2-nodes-cpu", 2), ("pytorchjob-2-nodes-cpu", 2), ("pytorchjob-1-node-gpu", 1)]
)
def test_what_is_kept_of_a_workload_has_its_number_of_pods_and_no_template(case: str, pods: int) -> None:
    built = workload(attempt(case))
    backend = backend_of(built)
    kept = TypeAdapter(backend.kept).validate_python(built["spec"])
    assert backend.size(kept) == pods
    assert "template" not in str(kept)


def test_users_variables_replace_defaults_but_not_the_contract() -> None:
    variables = environment(attempt("job-2-nodes-gpu-kueue"))
    assert variables["NCCL_DEBUG"] == "INFO"
    assert variables["HOME"] == names.SCRATCH_MOUNT
    for name in ("HF_TOKEN", "COMET_API_KEY"):
        assert variables[name]["secretKeyRef"]["optional"] is True


@pytest.mark.parametrize("name", ["PET_NNODES", "MASTER_ADDR", "RANK", "KRONOS_CAUSE_DIR"])
def test_variables_of_the_contract_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="set by the operator"):
        attempt("job-2-nodes-cpu", podTemplate={"env": [{"name": name, "value": "1"}]})


@pytest.mark.parametrize(
    ("resources", "threads", "visible"),
    [
        ({"gpusPerNode": 0, "cpu": 8, "processesPerNode": 2}, "4", ""),
        ({"gpusPerNode": 4, "cpu": 2}, "1", None),
        ({"gpusPerNode": 1, "cpu": "1500m"}, "1", None),
        ({"gpusPerNode": 1}, None, None),
    ],
)
def test_a_process_uses_its_share_of_the_pod(
    resources: dict[str, object], threads: str | None, visible: str | None
) -> None:
    variables = environment(attempt("job-2-nodes-cpu", resources=resources))
    assert variables.get("OMP_NUM_THREADS") == threads
    assert variables.get("CUDA_VISIBLE_DEVICES") == visible


def test_one_claim_for_bars_and_results_is_one_volume() -> None:
    subject = attempt("job-1-node-gpu")
    spec = pod(subject)
    claims = [volume["persistentVolumeClaim"] for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": "shared"}]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts[names.BARS_MOUNT] == {"name": "storage", "mountPath": names.BARS_MOUNT, "readOnly": True}
    assert "readOnly" not in mounts[names.STORAGE_MOUNT]
    assert subject.run_config.bars == "/mnt/bars/bars/us/daily"
    assert subject.run_config.output == "/mnt/storage/results"


def test_queue_is_the_models_own_or_the_default_and_never_the_pods() -> None:
    subject = attempt("job-2-nodes-gpu-kueue")
    unlabelled = attempt("job-2-nodes-cpu")
    for one, queue in (
        (replace(subject, default_queue="other"), "gpus"),
        (replace(unlabelled, default_queue="other"), "other"),
        (unlabelled, None),
    ):
        job = workload(one)
        assert job["metadata"]["labels"].get(names.QUEUE_LABEL) == queue
        assert names.QUEUE_LABEL not in job["spec"]["template"]["metadata"]["labels"]
        assert "suspend" not in job["spec"]
    assert "team" not in workload(subject)["metadata"]["labels"]


def test_pods_carry_our_labels_whatever_the_user_says() -> None:
    metadata = workload(attempt("job-2-nodes-gpu-kueue"))["spec"]["template"]["metadata"]
    assert metadata["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY
    assert metadata["labels"]["cost-centre"] == "fx"
    assert metadata["annotations"] == {"example.com/note": "nightly", "sidecar.istio.io/inject": "false"}


def test_longest_names_fit_into_a_label() -> None:
    content = body("job-2-nodes-cpu")
    content["metadata"]["name"] = "m" * names.MODEL_NAME_LENGTH
    long = AttemptTemplate(
        model=KronosModel.model_validate(content), uid=UID, start=replace(PREDICTOR, attempt=999), image=IMAGE
    )
    assert len(f"{long.name}-worker-254") <= 63
    assert len(f"{long.name}-255") <= 63


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data": {"source": {"path": "bars"}}}, "data.source.path"),
        ({"storage": {"path": "out"}}, "storage.path"),
    ],
)
def test_a_path_on_the_users_machine_is_named_and_refused(change: dict[str, object], field: str) -> None:
    subject = attempt("job-2-nodes-cpu", **change)
    assert local_paths(subject.model.spec) == [field]
    with pytest.raises(ValueError, match="claim or a URI"):
        children(subject)


def test_a_run_goes_on_with_what_it_began_with() -> None:
    began = model("job-2-nodes-cpu", image="trainer:1")
    kept = run_config_map(began, UID, RUN, IMAGE)
    live = model(
        "job-2-nodes-cpu",
        image="trainer:2",
        window={"lookback": 60, "horizon": 5},
        predictor={"learningRate": 0.5},
        evaluation={"samples": 3},
        checkpoint={"everySeconds": 60},
        retry={"maxRestarts": 9},
        resources={"nodes": 4, "gpusPerNode": 1},
    )
    later = frozen(kept, live)
    for name in ("timeframe", "data", "window", "tokenizer", "predictor", "training", "evaluation"):
        assert getattr(later.spec, name) == getattr(began.spec, name)
    for name in ("checkpoint", "retry", "resources", "storage"):
        assert getattr(later.spec, name) == getattr(live.spec, name)
    assert later.spec.image == "trainer:1"
    assert later.metadata == live.metadata


def test_the_image_of_a_run_changes_by_the_users_will_alone() -> None:
    unnamed = model("job-2-nodes-cpu")
    kept = run_config_map(unnamed, UID, RUN, "default:1")
    assert frozen(kept, unnamed).spec.image == "default:1", "the operator was upgraded meanwhile"
    assert frozen(kept, model("job-2-nodes-cpu", image="mended")).spec.image == "mended"
    broken = run_config_map(model("job-2-nodes-cpu", image="tpyo"), UID, RUN, "default:1")
    assert frozen(broken, unnamed).spec.image is None, "back to the default"


def test_what_a_newer_operator_has_frozen_is_read() -> None:
    began = model("job-2-nodes-cpu")
    kept = run_config_map(began, UID, RUN, IMAGE)
    content = json.loads(kept["data"][names.FROZEN_FILE])
    content["spec"]["training"]["somethingNew"] = 1
    kept["data"][names.FROZEN_FILE] = json.dumps(content)
    assert frozen(kept, began).spec.training == began.spec.training
    assert kept["immutable"] is True and kept["metadata"]["name"] == f"model-b-1d-{RUN}"


def write() -> None:
    """Writes the golden files."""
    for case in CASES:
        (GOLDEN / case / "children.yaml").write_text(rendered(case))


if __name__ == "__main__":
    write()
