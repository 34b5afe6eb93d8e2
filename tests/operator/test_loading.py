# ruff: noqa: E501 - messages are shown as the user reads them, on one line
"""What a user reads when a file, a variable or an override is wrong, and where the values of a good one came from."""

import io
import json
from pathlib import Path

import pytest
import yaml

from kronos_operator.loading import InvalidModel, Loaded, Origin, load_models, read_models, spec_leaves

HEAD = """\
apiVersion: kronos.io/v1alpha1
kind: KronosModel
metadata:
  name: model-b-1d
spec:
  timeframe: 1d
  data: {source: {claim: {name: bars}}}
"""

# What is added to a good file (from line 8 on), and what follows "model.yaml:" in the message.
ADDED = [
    ("  windows: {lookback: 60}", "8: spec.windows: unknown field; did you mean window?"),
    ("  predictor: {learnigRate: 1e-4}", "8: spec.predictor.learnigRate: unknown field; did you mean learningRate?"),
    (
        "  predictor: {learning_rate: 1e-4}",
        "8: spec.predictor.learning_rate: unknown field; did you mean learningRate?",
    ),
    (
        "  learningRate: 1e-4",
        "8: spec.learningRate: unknown field here; it belongs at spec.tokenizer.learningRate or spec.predictor.learningRate",
    ),
    (
        "  colour: red",
        "8: spec.colour: unknown field; the fields here are timeframe, image, data, window, tokenizer, predictor, evaluation, training, promotion, checkpoint, progress, resources, storage, backend, hubTokenSecret, comet, retry, updatePolicy, suspend, priority, schedule, historyLimit, childTTLSecondsAfterFinished, podTemplate",
    ),
    ("  window:\n    lookback: 600", "8: spec.window: lookback 600 + horizon 10 exceeds maxContext 512"),
    ("  window: {lookback: 1}", "8: spec.window.lookback: must be at least 2; found 1"),
    ("  window: {lookback: '90'}", "8: spec.window.lookback: must be a whole number; found '90'"),
    ("  window: {lookback: 90.5}", "8: spec.window.lookback: must be a whole number; found 90.5"),
    ("  window: 90", "8: spec.window: must be a mapping of fields; found 90"),
    (
        "  tokenizer: {init: {scratch: {size: huge}}}",
        "8: spec.tokenizer.init.scratch.size: must be one of tiny, base, 2k; found 'huge'",
    ),
    (
        "  tokenizer: {init: {scratch: {size: tiny}, path: x}}",
        "8: spec.tokenizer.init: set exactly one of hub, path, published, scratch; found path and scratch",
    ),
    (
        "  tokenizer: {init: {scratch: {size: tiny}}, epochs: 0}",
        "8: spec.tokenizer: epochs 0 keeps the initial weights, and scratch weights are random: train them or name others",
    ),
    (
        "  tokenizer: {init: {}}",
        "8: spec.tokenizer.init: set exactly one of hub, path, published, scratch; found none",
    ),
    ("  tokenizer: {betas: [0.9]}", "8: spec.tokenizer.betas: must have at least 2 entries; found 1"),
    ("  tokenizer: {betas: 0.9}", "8: spec.tokenizer.betas: must be a list; found 0.9"),
    ("  tokenizer: {learningRate: 0}", "8: spec.tokenizer.learningRate: must be greater than 0; found 0"),
    ("  tokenizer: {learningRate: .inf}", "8: spec.tokenizer.learningRate: must be a finite number; found inf"),
    ("  tokenizer: {warmupFraction: 1}", "8: spec.tokenizer.warmupFraction: must be less than 1; found 1"),
    ("  predictor: {batchSize: many}", "8: spec.predictor.batchSize: must be a whole number; found 'many'"),
    (
        "  predictor: {init: {hub: {repo: Kronos-small}}}",
        "8: spec.predictor.init.hub.repo: 'Kronos-small' does not have the right form: Repository, as owner/name. It must match ^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$",
    ),
    (
        "  training: {precision: BF61}",
        "8: spec.training.precision: must be one of auto, fp32, tf32, bf16; found 'BF61'; did you mean bf16?",
    ),
    ("  training: {compile: maybe}", "8: spec.training.compile: must be true or false; found 'maybe'"),
    (
        "  training: {earlyStopping: {patience: 0}}",
        "8: spec.training.earlyStopping.patience: must be at least 1; found 0",
    ),
    (
        "  resources: {memory: 16GB}",
        "8: spec.resources.memory: '16GB' does not have the right form: Memory per pod, set as request and limit, e.g. 32Gi. It must match ^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
    ),
    (
        "  resources: {memory: 8Gi, sharedMemory: 16Gi}",
        "8: spec.resources: sharedMemory 16Gi counts against memory 8Gi and must not exceed it",
    ),
    ("  resources: {cpu: 0}", "8: spec.resources: cpu must be greater than 0"),
    ("  resources: {cpu: 0.5}", "8: spec.resources.cpu: must be text; found 0.5; put it in quotes"),
    ("  resources: {gpusPerNode: -1}", "8: spec.resources.gpusPerNode: must be at least 0; found -1"),
    (
        "  resources: {extended: {nvidia.com/gpu: 1}}",
        "8: spec.resources: set GPUs with gpusPerNode, not as nvidia.com/gpu in extended",
    ),
    (
        "  storage: {claim: {name: models}, path: out}",
        "8: spec.storage: set exactly one of claim, path, uri; found claim and path",
    ),
    (
        "  storage: {claim: {path: a}}",
        "8: spec.storage.claim.name: is required: Name of the PersistentVolumeClaim, in the model's namespace.",
    ),
    (
        "  storage: {claim: {name: models, path: ../others}}",
        "8: spec.storage.claim.path: must not contain '..' as a path segment; found '../others'",
    ),
    ("  storage: {path: a/..}", "8: spec.storage.path: must not contain '..' as a path segment; found 'a/..'"),
    (
        "  storage: {uri: 'file:///mnt'}",
        "8: spec.storage.uri: must begin with s3://, gs://, az:// or hf:// and contain neither '..' as a path segment nor '::'",
    ),
    (
        "  podTemplate: {securityContext: {fsGroup: 0}}",
        "8: spec.podTemplate.securityContext.fsGroup: must be at least 1; found 0",
    ),
    ("  backend: job", "8: spec.backend: must be one of Job, PyTorchJob; found 'job'; did you mean Job?"),
    ("  updatePolicy: Stop", "8: spec.updatePolicy: must be one of Finish, Cancel, Manual; found 'Stop'"),
    (
        "  schedule: {cron: '0 25 * * *'}",
        "8: spec.schedule.cron: must be five cron fields (minute hour day month weekday), e.g. 0 6 * * 6 for Saturdays at 6; found '0 25 * * *'",
    ),
    (
        "  schedule: {cron: 0 6 * * 6, timeZone: America/NewYork}",
        "8: spec.schedule.timeZone: no such time zone: 'America/NewYork'; did you mean America/New_York?",
    ),
    ("  image: ''", "8: spec.image: must not be empty"),
    ("  suspend: 1", "8: spec.suspend: must be true or false; found 1"),
    ("  historyLimit: 1000", "8: spec.historyLimit: must be at most 100; found 1000"),
    ("  comet: {tags: [a]}", "8: spec.comet.project: is required: Comet project."),
    ("  comet: {project: 5}", "8: spec.comet.project: must be text; found 5; put it in quotes"),
    ("  comet: {project: p, tags: a}", "8: spec.comet.tags: must be a list; found 'a'"),
    (
        "  podTemplate:\n    env:\n      - {name: OK, value: a}\n      - {name: PET_NNODES, value: '2'}",
        "8: spec.podTemplate: the environment variable PET_NNODES is set by the operator: leave it out",
    ),
    (
        "  podTemplate:\n    env:\n      - {name: A, value: a}\n      - {name: A, value: b}",
        "8: spec.podTemplate: the environment variable A is given twice",
    ),
    (
        "  podTemplate: {env: [{name: 1A, value: a}]}",
        "8: spec.podTemplate.env[0].name: '1A' does not have the right form: Name of the variable. It must match ^[A-Za-z_][A-Za-z0-9_]*$",
    ),
    (
        "  podTemplate: {env: [{name: A, value: a, valueFrom: {secretKeyRef: {name: s, key: k}}}]}",
        "8: spec.podTemplate.env[0]: A: set value or valueFrom, not both",
    ),
    (
        "  podTemplate: {env: [{name: AWS_SECRET_ACCESS_KEY, value: hunter2}]}",
        "8: spec.podTemplate.env[0]: AWS_SECRET_ACCESS_KEY: a secret must come from a Secret: use valueFrom: {secretKeyRef: {name: ..., key: ...}} instead of value",
    ),
    (
        "  podTemplate: {env: [{name: hf_token, valueFrom: {configMapKeyRef: {name: s, key: k}}}]}",
        "8: spec.podTemplate.env[0]: hf_token: a secret must come from a Secret: use valueFrom: {secretKeyRef: {name: ..., key: ...}} instead of value",
    ),
    (
        "  storage: {uri: 's3://AKIA1:hunter2@models/x'}",
        "5: spec: storage.uri: a URI must not contain keys or a query: pass keys from a Secret with podTemplate.env",
    ),
    (
        "  storage: {uri: 'az://models/x?sig=hunter2'}",
        "5: spec: storage.uri: a URI must not contain keys or a query: pass keys from a Secret with podTemplate.env",
    ),
    (
        "  storage: {uri: 'hf://datasets/a/b'}",
        "5: spec: storage.uri must begin with s3://, gs:// or az://: the hub can only be read",
    ),
    (
        "  podTemplate: {labels: {kronos.io/model: x}}",
        "8: spec.podTemplate: kronos.io/model is reserved: use a prefix other than kronos.io/ or batch.kubernetes.io/",
    ),
    (
        "  podTemplate: {securityContext: {runAsUser: 0}}",
        "8: spec.podTemplate.securityContext.runAsUser: must be at least 1; found 0",
    ),
    (
        "  podTemplate: {volumes: []}",
        "8: spec.podTemplate.volumes: unknown field; the fields here are labels, annotations, nodeSelector, tolerations, affinity, topologySpreadConstraints, schedulerName, runtimeClassName, priorityClassName, serviceAccountName, imagePullSecrets, securityContext, env",
    ),
    ("  window: {lookback: 60}\n  window: {lookback: 70}", "9: spec.window: is given twice; the first is on line 8"),
    ("  <<: {suspend: true}", "8: spec: merge keys (<<) are not supported: write the fields out"),
]

# What is replaced in a good file, by what, and the message.
REPLACED = [
    (
        "timeframe: 1d",
        "timeframe: 2d",
        "6: spec.timeframe: must be one of 1m, 3m, 5m, 10m, 15m, 20m, 30m, 1h, 2h, 4h, 6h, 12h, 1d, 1w, 1mo; found '2d'",
    ),
    (
        "timeframe: 1d",
        "timeframe: 1D",
        "6: spec.timeframe: must be one of 1m, 3m, 5m, 10m, 15m, 20m, 30m, 1h, 2h, 4h, 6h, 12h, 1d, 1w, 1mo; found '1D'; did you mean 1d?",
    ),
    ("  timeframe: 1d\n", "", "5: spec.timeframe: is required: Length of a bar. Immutable."),
    (
        "name: model-b-1d",
        "name: Model_B",
        "4: metadata.name: 'Model_B' does not have the right form: Name of the model: lower-case letters, digits and '-', starting with a letter. It must match ^[a-z]([-a-z0-9]*[a-z0-9])?$",
    ),
    (
        "name: model-b-1d",
        "name: mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
        "4: metadata.name: must have at most 34 characters; found 35",
    ),
    (
        "  name: model-b-1d\n",
        "  nam: model-b-1d\n",
        "3: metadata.name: is required: Name of the model: lower-case letters, digits and '-', starting with a letter.\nmodel.yaml:4: metadata.nam: unknown field; did you mean name?",
    ),
    ("kronos.io/v1alpha1", "kronos.io/v1", "1: apiVersion: must be kronos.io/v1alpha1; found 'kronos.io/v1'"),
    ("KronosModel", "KronosModels", "2: kind: must be KronosModel; found 'KronosModels'"),
    ("kind: KronosModel\n", "", "1: kind: must be KronosModel; it is absent"),
    ("{claim: {name: bars}}", "{}", "7: spec.data.source: set exactly one of claim, path, uri; found none"),
    (
        "{claim: {name: bars}}",
        "{claim: {name: bars}}, columns: {high: Price, low: Price}",
        "7: spec.data.columns: high and low are both 'Price'; a column holds one field",
    ),
    (
        "{claim: {name: bars}}",
        "{claim: {name: bars}}, columns: {price: Close}",
        "7: spec.data.columns.price: unknown field; the fields here are timestamps, open, high, low, close, volume, amount, symbol",
    ),
    (
        "{source: {claim: {name: bars}}}",
        "{source: {claim: {name: bars}}, split: {fractions: {train: 0.9}}}",
        "7: spec.data.split.fractions: train + validation + test must sum to 1; they sum to 1.1",
    ),
    (
        "{source: {claim: {name: bars}}}",
        "{source: {claim: {name: bars}}, split: {ranges: {train: {start: 2011-01-01, end: 2012-01-01}, validation: {start: 2011-06-01, end: 2013-01-01}}}}",
        "7: spec.data.split.ranges: validation starts at 2011-06-01, inside train which ends at 2012-01-01",
    ),
    (
        "{source: {claim: {name: bars}}}",
        "{source: {claim: {name: bars}}, split: {ranges: {train: {start: 2011-13-01, end: 2012-01-01}, validation: {start: 2012-06-01, end: 2013-01-01}}}}",
        "7: spec.data.split.ranges.train.start: 2011-13-01 is not a date: month must be in 1..12",
    ),
    (
        "{source: {claim: {name: bars}}}",
        "{source: {claim: {name: bars}}, revision: 20261120}",
        "7: spec.data.revision: must be text; found 20261120; put it in quotes",
    ),
    (
        "  timeframe: 1d",
        "\ttimeframe: 1d",
        "6: not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    ),
]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, *overrides: str, **environ: str) -> list[Loaded]:
    file = Path("model.yaml")
    file.write_text(text)
    return load_models([file], overrides=overrides, environ=environ)


def complaint(text: str, *overrides: str, **environ: str) -> str:
    with pytest.raises(InvalidModel) as caught:
        load(text, *overrides, **environ)
    return str(caught.value)


@pytest.mark.parametrize(("added", "message"), ADDED)
def test_a_bad_addition_is_explained(added: str, message: str) -> None:
    assert complaint(f"{HEAD}{added}\n") == f"model.yaml:{message}"


@pytest.mark.parametrize(("old", "new", "message"), REPLACED)
def test_a_bad_replacement_is_explained(old: str, new: str, message: str) -> None:
    assert old in HEAD
    assert complaint(HEAD.replace(old, new)) == f"model.yaml:{message}"


def test_every_problem_of_every_file_is_named() -> None:
    Path("a.yaml").write_text(f"{HEAD}  suspend: 3\n  backend: Jib\n")
    Path("b.yaml").write_text("")
    Path("c.yaml").write_bytes(b"\xff\xfe")
    Path("d.yaml").write_text("- a list\n")
    with pytest.raises(InvalidModel) as caught:
        load_models([Path(name) for name in ("a.yaml", "b.yaml", "c.yaml", "d.yaml", "none.yaml")])
    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml:9: spec.backend: must be one of Job, PyTorchJob; found 'Jib'",
        "a.yaml:8: spec.suspend: must be true or false; found 3",
        "b.yaml: contains no KronosModel: the file is empty",
        "c.yaml: is not text in UTF-8",
        "d.yaml:1: is not a KronosModel: a mapping of fields is expected",
        "none.yaml: cannot be read: no such file or directory",
    ]


def test_a_file_may_hold_several_models_but_none_twice() -> None:
    other = HEAD.replace("model-b-1d", "other")
    assert [one.model.metadata.name for one in load(f"{HEAD}---\n{other}---\n")] == ["model-b-1d", "other"]
    assert complaint(f"{HEAD}---\n{HEAD}") == (
        "model.yaml:12: metadata.name: model default/model-b-1d is already defined at model.yaml:1"
    )


SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: comet}\n"


def read(*paths: str, listed: bool = False) -> tuple[list[str], list[str], list[str]]:
    """Names of the models, problems and notes."""
    reading = read_models([Path(path) for path in paths], listed=listed)
    return [one.model.metadata.name for one in reading.models], [*map(str, reading.problems)], reading.notes


def test_a_directory_is_read_as_kubectl_reads_it_and_what_is_something_else_is_said() -> None:
    folder = Path("folder")
    (folder / "below").mkdir(parents=True)
    for name, text in {
        "b.yml": HEAD,
        "a.json": json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(HEAD.replace("-1d", "-j"))]}
        ),
        "both.yaml": f"{SECRET}---\n{HEAD.replace('-1d', '-c')}",
        "kustomization.yaml": "resources: [b.yml]\n",
        "template.yaml": "{{- if .Values.x }}\n",
        "patch.yaml": f"{SECRET}# beside a KronosModel\n",
        ".hidden.yaml": HEAD,
        "readme.md": HEAD,
        "below/c.yaml": HEAD,
    }.items():
        (folder / name).write_text(text)
    assert read("folder") == (
        ["model-b-j", "model-b-1d", "model-b-c"],
        [],
        [
            "folder/both.yaml: skipped, no KronosModel: Secret comet",
            "folder/kustomization.yaml: skipped, no KronosModel",
            "folder/patch.yaml: skipped, no KronosModel: Secret comet",
            "folder/template.yaml: skipped, no KronosModel",
        ],
    )
    (folder / "template.yaml").write_bytes(b"\xff\xfe")
    assert read("folder")[1] == []
    (folder / "slip.yaml").write_text(HEAD.replace("KronosModel", "KronosModle"))
    assert read("folder")[1] == ["folder/slip.yaml:2: kind: must be KronosModel; found 'KronosModle'"]
    Path("empty").mkdir()
    with pytest.raises(InvalidModel, match=r"^empty: contains no .yaml, .yml, .json file$"):
        read("folder/below", "empty")


def test_something_else_is_a_problem_where_it_is_named_and_a_note_in_a_list_of_the_shell() -> None:
    Path("secret.yaml").write_text(SECRET)
    Path("model.yaml").write_text(HEAD)
    problem = "secret.yaml:2: kind: must be KronosModel; found 'Secret'"
    assert problem in read("secret.yaml", "model.yaml")[1]
    note = "secret.yaml: skipped, no KronosModel: Secret comet"
    assert read("secret.yaml", "model.yaml", listed=True) == (["model-b-1d"], [], [note])
    assert (
        read("secret.yaml", "secret.yaml", listed=True)[1] == ["secret.yaml: contains no KronosModel: Secret comet"] * 2
    )


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HEAD.encode())))
    (one,) = load_models([Path("-")])
    assert (one.origins["timeframe"].where, one.base_of("data.source.path")) == ("stdin:6", Path.cwd())
    with pytest.raises(InvalidModel, match="stdin: can be read only once"):
        read("-", "-")


def test_the_items_of_a_list_keep_their_lines() -> None:
    items = "".join(f"{'- ' if not number else '  '}{line}\n" for number, line in enumerate(HEAD.splitlines()))
    text = f"apiVersion: v1\nkind: List\nitems:\n{items}"
    assert load(text)[0].origins["timeframe"].where == "model.yaml:9"
    assert complaint(text.replace("1d\n    data", "1q\n    data")).startswith("model.yaml:9: spec.timeframe: must be")


def test_an_alias_inside_itself_is_refused() -> None:
    assert (
        complaint("&a {apiVersion: *a}\n") == "model.yaml:1: apiVersion: an alias may not refer to what it is part of"
    )


def test_numbers_dates_and_empty_keys_are_read_as_kubectl_reads_them() -> None:
    text = f"{HEAD}  tokenizer: {{learningRate: 1e-4, epochs: }}\n  comet:\n  suspend: yes\n"
    spec = load(text.replace("bars}}}", "bars}}, revision: 2026-11-20}"))[0].model.spec
    assert (spec.tokenizer.learning_rate, spec.tokenizer.epochs, spec.comet, spec.suspend) == (1e-4, 30, None, True)
    assert spec.data.revision == "2026-11-20"


def test_an_object_exported_from_a_cluster_loads() -> None:
    exported = (
        HEAD.replace("  name:", "  managedFields: []\n  generation: 3\n  uid: 7f\n  name:") + "status: {future: 1}\n"
    )
    assert load(exported)[0].model.metadata.generation == 3


def test_set_beats_environment_beats_file() -> None:
    text = f"{HEAD}  tokenizer: {{init: {{hub: {{repo: a/b, revision: main}}}}, epochs: 7}}\n  comet: {{project: p, workspace: w}}\n"
    environ = {"KRONOS_TOKENIZER_PATH": "/tok", "KRONOS_PREDICTOR_PATH": "/pred", "COMET_WORKSPACE": "team"}
    loaded = load(text, "spec.predictor.init.scratch.size=tiny", "predictor.epochs=2", **environ)[0]
    values = {path: (value, loaded.origins[path]) for path, value in spec_leaves(loaded.model.spec).items()}
    assert {
        path: value for path, value in values.items() if ".init." in path or "epochs" in path or "comet" in path
    } == {
        "tokenizer.init.path": ("/tok", Origin("environment", "KRONOS_TOKENIZER_PATH")),
        "tokenizer.epochs": (7, Origin("file", "model.yaml:8")),
        "predictor.init.scratch.size": ("tiny", Origin("--set", "--set spec.predictor.init.scratch.size=tiny")),
        "predictor.epochs": (2, Origin("--set", "--set predictor.epochs=2")),
        "comet.project": ("p", Origin("file", "model.yaml:9")),
        "comet.workspace": ("team", Origin("environment", "COMET_WORKSPACE")),
    }
    assert values["window.lookback"] == (90, Origin("default", "default"))
    assert loaded.origins.keys() == values.keys()


def test_a_workspace_without_comet_and_an_empty_variable_change_nothing() -> None:
    assert load(HEAD, COMET_WORKSPACE="team", KRONOS_TOKENIZER_PATH="") == load(HEAD)


def test_overrides_keep_the_defaults_beside_them() -> None:
    spec = load(HEAD, "tokenizer.init.hub.revision=main", "window.horizon=3", "comet.project=p")[0].model.spec
    assert spec.tokenizer.init.hub is not None
    assert spec.tokenizer.init.hub.repo == "NeoQuasar/Kronos-Tokenizer-base"
    assert (spec.window.lookback, spec.window.horizon) == (90, 3)


def test_overrides_take_lists_map_keys_with_dots_and_nothing() -> None:
    text = f"{HEAD}  comet: {{project: p, workspace: w}}\n"
    overrides = ["comet.tags=[a, b]", "podTemplate.labels.team.io/x=y", "comet.workspace=", "data.revision=20261120"]
    spec = load(text, *overrides)[0].model.spec
    assert spec.comet is not None
    assert spec.data.revision == "20261120"  # text, as the field is
    assert (spec.comet.tags, spec.comet.workspace, spec.pod_template.labels) == (["a", "b"], None, {"team.io/x": "y"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("predictor.epoch=2", "spec.predictor.epoch: unknown field; did you mean epochs?"),
        ("window.lookback=600", "spec.window: lookback 600 + horizon 10 exceeds maxContext 512"),
        ("suspend.x=1", "spec.suspend: must be true or false; found a mapping"),
        ("predictor.epochs", "write it as field=value, e.g. predictor.epochs=2"),
        (
            "comet.tags=[a",
            "comet.tags: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_a_bad_override_is_blamed_itself(override: str, message: str) -> None:
    assert complaint(f"{HEAD}  suspend: false\n", override) == f"--set {override}: {message}"
