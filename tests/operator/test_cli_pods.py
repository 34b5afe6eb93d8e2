"""Commands that work in a pod: data push, pull and forecast --cluster, with a server whose pods are local processes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_server import PodServer

from kronos_operator import names
from kronos_operator.cli import main
from kronos_operator.cli.cluster import transfer
from kronos_operator.cli.options import TRAINER_IMAGE_ENV

BARS = {"IBM.csv": b"timestamps,close\n2020-01-01,1\n", "more/FB.csv": b"f" * 300_000, "A.parquet": b"p" * 300_000}
RUN = "3c1f930d"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodServer]:
    """A server with claims and the published image, from a working directory that has bars."""
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    one = PodServer(volumes)
    one.start()
    one.claim("bars")
    one.claim("models")
    published = {"data": {names.CLIENT_IMAGE_KEY: "example.org/trainer:1"}}
    one.put(f"/api/v1/namespaces/{names.CLIENT_NAMESPACE}/configmaps/{names.CLIENT_CONFIG_MAP}", published)
    work = tmp_path / "work"
    work.mkdir()
    for name, content in (BARS | {"README.txt": b"not bars"}).items():
        file = work / "daily" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": one.url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv(TRAINER_IMAGE_ENV, raising=False)
    monkeypatch.delenv("KRONOS_OUTPUT_PATH", raising=False)
    monkeypatch.setattr(transfer, "_PAUSES", (0.1, 0.1))
    monkeypatch.chdir(work)
    yield one
    one.stop()


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def push(*options: str) -> int:
    return main(["data", "push", "daily", "--claim", "bars", "--path", "us/daily", *options])


def test_push_puts_bars_and_nothing_else_on_the_claim_and_leaves_no_pod(server: PodServer, capsys: Any) -> None:
    assert push() == 0
    out, err = capsys.readouterr()
    assert tree(server.folder / "bars") == {f"us/daily/{name}": content for name, content in BARS.items()}
    assert "us/daily of claim bars: 3 files, 586.0 KiB; 3 added, 0 replaced, 0 unchanged" in out
    assert "data: {source: {claim: {name: bars, path: us/daily}}}" in out
    assert "README.txt" in err
    assert server.pods == [] and len(server.made) == 1
    assert push() == 0
    assert "0 added, 0 replaced, 3 unchanged" in capsys.readouterr().out


def test_the_pod_is_restricted_ends_by_itself_and_is_none_of_the_operators(server: PodServer) -> None:
    assert push() == 0
    (pod,) = server.made
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    assert labels[names.MANAGED_BY_LABEL] == "kronos" != names.MANAGED_BY
    assert names.MODEL_LABEL not in labels and labels[names.COMMAND_LABEL] == "push"
    assert spec["activeDeadlineSeconds"] > 0 and not spec["automountServiceAccountToken"]
    security = spec["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    (container,) = spec["containers"]
    assert container["image"] == "example.org/trainer:1"
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_push_goes_on_after_a_cut_connection_with_what_is_missing(server: PodServer, capsys: Any) -> None:
    server.cut_after = 400_000  # the first large file has arrived, the second has not
    assert push() == 0
    out, err = capsys.readouterr()
    assert "broke off" in err and "3 added" in out
    assert tree(server.folder / "bars") == {f"us/daily/{name}": content for name, content in BARS.items()}
    assert len(server.commands) == 2 and server.pods == []


def test_the_pods_refusal_is_told_in_its_own_words_with_its_exit_code(server: PodServer, capsys: Any) -> None:
    assert push() == 0
    Path("daily/IBM.csv").write_bytes(b"other")
    assert push() == 64
    assert "IBM.csv; replace them with --overwrite" in capsys.readouterr().err
    assert push("--overwrite") == 0
    assert (server.folder / "bars/us/daily/IBM.csv").read_bytes() == b"other"
    assert server.pods == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["absent", "--claim", "bars"], 66, "absent does not exist"),
        (["empty", "--claim", "bars"], 66, "no bar files"),
        (["blank", "--claim", "bars"], 65, "empty files: A.csv"),
        (["daily", "--claim", "bars", "--path", "../x"], 64, "--path: must be a relative path"),
        (["daily", "--claim", "absent"], 66, "no PersistentVolumeClaim absent in namespace ns (found: bars, models)"),
    ],
)
def test_what_cannot_be_pushed_needs_no_pod(
    server: PodServer, arguments: list[str], code: int, words: str, capsys: Any
) -> None:
    Path("empty").mkdir()
    Path("blank").mkdir()
    Path("blank/A.csv").touch()
    assert main(["data", "push", *arguments]) == code
    assert words in capsys.readouterr().err
    assert server.made == []


def test_the_image_is_the_named_one_or_a_failure_says_how_to_name_it(
    server: PodServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    server.objects = {path: body for path, body in server.objects.items() if "configmaps" not in path}
    assert push() == 78
    err = capsys.readouterr().err
    assert "--image or KRONOS_TRAINER_IMAGE" in err and "does not exist" in err
    assert push("--image", "mine:1") == 0
    monkeypatch.setenv(TRAINER_IMAGE_ENV, "mine:2")
    assert push() == 0
    assert [pod["spec"]["containers"][0]["image"] for pod in server.made] == ["mine:1", "mine:2"]


def test_a_pod_that_cannot_start_is_an_error_with_the_kubelets_reason_and_is_deleted(
    server: PodServer, capsys: Any
) -> None:
    server.waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    assert push() == 78
    assert "ImagePullBackOff: no such image" in capsys.readouterr().err
    assert len(server.made) == 1 and server.pods == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_deletes_the_pod(server: PodServer, sent: signal.Signals, code: int) -> None:
    server.waiting = {"reason": "ContainerCreating"}
    command = "import sys; from kronos_operator.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", command, "data", "push", "daily", "--claim", "bars"])

    async def made() -> None:
        while not server.made:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(made(), 30))
    process.send_signal(sent)
    assert process.wait(timeout=30) == code
    assert server.pods == []


def judge(run: Path) -> None:
    """Plays the evaluation of a run."""
    (run / "evaluation").mkdir()
    (run / "report.html").write_text("<h1>m</h1>")
    for name in ("report.json", "calibration.json", "evaluation/evaluation.json", "evaluation/result.json"):
        (run / name).write_text(json.dumps({"run": RUN, "name": name}))


def trade(server: PodServer, name: str = "summary.json", content: str = json.dumps({"run": RUN})) -> Path:
    """Plays a backtest of the run, with one of its files."""
    backtest = server.folder / "models/team/backtest_results/ns_m" / RUN
    backtest.mkdir(parents=True, exist_ok=True)
    for file in ("trades.csv", "equity.csv", "summary.json", "backtest.html"):
        (backtest / file).write_text(content if file == name else f'{{"name": "{file}"}}')
    return backtest


def publish(server: PodServer, *, digest: str | None = None, evaluated: bool = True) -> Path:
    """Plays a trainer that has published a run; `digest` is what status names for the tokenizer instead of its own."""
    directory = server.folder / "models/team/models/ns/m"
    artifacts: dict[str, Any] = {"run": RUN}
    current: dict[str, Any] = {"run": RUN}
    for stage in ("tokenizer", "predictor"):
        best = directory / "runs" / RUN / stage / "best"
        best.mkdir(parents=True)
        parts = {"config.json": b"{}", "model.safetensors": stage.encode() * 1000}
        for name, content in parts.items():
            (best / name).write_bytes(content)
        found = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts.values())).hexdigest()
        (best.parent / "result.json").write_text(json.dumps({"digest": found}))
        (best.parent / "checkpoints").mkdir()
        (best.parent / "checkpoints/large").write_bytes(b"not for users")
        current[stage] = {"path": f"runs/{RUN}/{stage}/best"}
        artifacts[stage] = {"path": f"models/ns/m/runs/{RUN}/{stage}/best", "digest": found, "hash": "12345678"}
    if evaluated:
        judge(directory / "runs" / RUN)
    (directory / "current.json").write_text(json.dumps(current))
    if digest is not None:
        artifacts["tokenizer"]["digest"] = digest
    model = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "m", "namespace": "ns"},
        "spec": {
            "timeframe": "1d",
            "image": "example.org/models-own:3",
            "data": {"source": {"claim": {"name": "bars"}}},
            "storage": {"claim": {"name": "models", "path": "team"}},
            "podTemplate": {"nodeSelector": {"pool": "gpu"}, "securityContext": {"runAsUser": 4711}},
        },
        "status": {"observedGeneration": 1, "artifacts": artifacts}
        | ({"evaluation": {"run": RUN, "verdict": "Better"}} if evaluated else {}),
    }
    server.put(f"/apis/{names.API_VERSION}/namespaces/ns/{names.PLURAL}/m", model)
    return directory


def test_pull_brings_weights_results_evaluation_and_report_where_a_local_run_leaves_them(
    server: PodServer, capsys: Any
) -> None:
    there = tree(publish(server))
    assert main(["pull", "m", "--to", "out"]) == 0
    assert tree(Path("out/models/ns/m")) == {name: there[name] for name in there if "checkpoints" not in name}
    assert {f"runs/{RUN}/evaluation/evaluation.json", f"runs/{RUN}/report.html"} < tree(Path("out/models/ns/m")).keys()
    shown = capsys.readouterr().out
    assert "kronos forecast --root out --model m" in shown and f"runs/{RUN}/report.html" in shown
    (pod,) = server.made
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"} and pod["spec"]["securityContext"]["runAsUser"] == 4711
    assert pod["spec"]["containers"][0]["image"] == "example.org/models-own:3"
    mounts = {one["mountPath"]: one.get("readOnly") for one in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[names.STORAGE_MOUNT] is True
    assert server.pods == []
    # What is here already needs no pod.
    assert main(["pull", "m", "--to", "out"]) == 0
    assert len(server.made) == 1


def test_pull_brings_the_verdict_on_a_run_that_was_pulled_before_it_was_evaluated(
    server: PodServer, capsys: Any
) -> None:
    directory = publish(server, evaluated=False)
    assert main(["pull", "m", "--to", "out"]) == 0
    assert "report" not in capsys.readouterr().out
    judge(directory / "runs" / RUN)
    model = server.objects[f"/apis/{names.API_VERSION}/namespaces/ns/{names.PLURAL}/m"]
    model["status"]["evaluation"] = {"run": "another"}
    assert main(["pull", "m", "--to", "out"]) == 0
    assert not Path(f"out/models/ns/m/runs/{RUN}/report.html").exists()
    model["status"]["evaluation"] = {"run": RUN}
    assert main(["pull", "m", "--to", "out"]) == 0
    there = tree(directory)
    assert tree(Path("out/models/ns/m")) == {name: there[name] for name in there if "checkpoints" not in name}


def test_pull_brings_the_backtest_where_the_report_looks_for_it(server: PodServer, capsys: Any) -> None:
    publish(server, evaluated=False)
    there = trade(server)
    (there / "notes.txt").write_text("no result")
    here = Path(f"out/backtest_results/ns_m/{RUN}")
    here.mkdir(parents=True)
    (here / "backtest.html").write_text("of another strategy")
    (here / "mine.txt").write_text("mine")
    (here / "equity.csv").mkdir()
    assert main(["pull", "m", "--to", "out"]) == 74
    assert not (here / "backtest.html").exists(), "a page beside files of another backtest"
    (here / "equity.csv").rmdir()
    assert main(["pull", "m", "--to", "out"]) == 0
    assert f"backtest   {here / 'backtest.html'}\n" in capsys.readouterr().out
    brought = {name: content for name, content in tree(there).items() if name != "notes.txt"}
    assert len(brought) == 4 and tree(here) == brought | {"mine.txt": b"mine"}
    assert {path.name for path in Path("out/backtest_results").iterdir()} == {"ns_m"}
    assert {path.name for path in Path("out/models/ns/m/runs").iterdir()} == {RUN}


def test_pull_goes_again_for_a_backtest_that_the_report_speaks_of(server: PodServer) -> None:
    run = publish(server) / "runs" / RUN
    (run / "report.json").write_text(json.dumps({"run": RUN, "backtest": {"sentence": "Long or flat"}}))
    page = Path(f"out/backtest_results/ns_m/{RUN}/backtest.html")
    assert main(["pull", "m", "--to", "out"]) == 0 and not page.exists()
    trade(server)
    assert main(["pull", "m", "--to", "out"]) == 0 and page.exists()
    assert main(["pull", "m", "--to", "out"]) == 0 and len(server.made) == 2


@pytest.mark.parametrize(
    "name",
    [
        f"backtest_results/ns_m/{RUN}/notes.txt",
        f"backtest_results/ns_m/{RUN}/../trades.csv",
        "backtest_results/ns_m/other/trades.csv",
        "backtest_results/ns_m/trials.json",
        f"/backtest_results/ns_m/{RUN}/trades.csv",
    ],
)
def test_pull_takes_nothing_of_a_pod_that_it_has_not_asked_for(
    server: PodServer, capsys: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    publish(server)
    trade(server)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))

    async def download(self: Any, root: str, names: Any, target: Any, if_there: Any = ()) -> None:
        target.write(archive.getvalue())

    monkeypatch.setattr(transfer.Pod, "download", download)
    assert main(["pull", "m", "--to", "out"]) == 65
    assert "which was not requested" in capsys.readouterr().err
    assert tree(Path("out")) == {}


def test_a_backtest_of_another_run_is_refused_with_all_that_came(server: PodServer, capsys: Any) -> None:
    publish(server)
    trade(server, content='{"run": "another"}')
    assert main(["pull", "m", "--to", "out"]) == 65
    assert "summary.json on the claim is of run another" in capsys.readouterr().err
    assert tree(Path("out")) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"run": "another"}', "is of run another"), ("{", "cannot be read"), ("[]", "is no JSON object")],
)
def test_pull_refuses_an_evaluation_of_another_run(server: PodServer, capsys: Any, content: str, words: str) -> None:
    directory = publish(server)
    (directory / "runs" / RUN / "evaluation" / "evaluation.json").write_text(content)
    assert main(["pull", "m", "--to", "out"]) == 65
    assert words in capsys.readouterr().err
    assert tree(Path("out")) == {}


def test_pull_refuses_weights_that_are_not_those_of_status_and_leaves_nothing(server: PodServer, capsys: Any) -> None:
    publish(server, digest="0" * 64)
    assert main(["pull", "m", "--to", "out"]) == 65
    assert "the tokenizer on the claim is not what was published" in capsys.readouterr().err
    assert tree(Path("out")) == {}


def test_pull_never_overwrites_another_run_of_the_same_id(server: PodServer, capsys: Any) -> None:
    publish(server)
    mine = Path(f"out/models/ns/m/runs/{RUN}/tokenizer/best/model.safetensors")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert main(["pull", "m", "--to", "out"]) == 74
    assert "name another --to" in capsys.readouterr().err
    assert tree(Path("out")) == {mine.relative_to("out").as_posix(): b"mine"}


def test_a_model_without_a_published_run_is_told_apart(server: PodServer, capsys: Any) -> None:
    publish(server)
    model = server.objects[f"/apis/{names.API_VERSION}/namespaces/ns/{names.PLURAL}/m"]
    model["status"] = {"conditions": [_condition("Ready", "waits for a GPU")]}
    for command in (["pull", "m", "--to", "out"], ["forecast", "--cluster", "--model", "m", *FORECAST]):
        assert main(command) == 66
        assert "m has published nothing yet: waits for a GPU" in capsys.readouterr().err
    assert server.made == []


def _condition(kind: str, message: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": "False",
        "reason": "Pending",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


FORECAST = ["--input", "daily/IBM.csv", "--output", "out.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (FORECAST, "name it with --model"),
        ([*FORECAST, "--model", "m", "--root", "x"], "--root names local files"),
        ([*FORECAST, "--model", "m", "--device", "cuda"], "runs on CPU"),
        ([*FORECAST, "--model", "m", "--plot", "x.jpg"], "must end with .png"),
        ([*FORECAST[2:], "--input", "absent.csv", "--model", "m"], "absent.csv: no such file"),
        ([*FORECAST, "--model", "m", "--output", "daily"], "is a directory"),
    ],
)
def test_a_forecast_that_cannot_be_asked_of_a_cluster_needs_no_pod(
    server: PodServer, options: list[str], words: str, capsys: Any
) -> None:
    publish(server)
    assert main(["forecast", "--cluster", *options]) in (64, 66)
    assert words in capsys.readouterr().err
    assert server.made == []


def test_a_forecasts_failure_in_the_pod_is_the_commands(server: PodServer, capsys: Any) -> None:
    publish(server)
    assert main(["forecast", "--cluster", "--model", "m", *FORECAST, "--temperature", "-1"]) == 64
    assert "temperature" in capsys.readouterr().err
    sent, forecast = server.commands
    assert sent[-2:] == ["receive", "/tmp"]
    given = dict(zip(forecast[3::2], forecast[4::2], strict=True))
    assert given["--root"] == "/mnt/storage/team" and given["--namespace"] == "ns"
    assert given["--input"] == "/tmp/forecast/input/IBM.csv"
    assert not Path("out.csv").exists() and server.pods == []


SAVE = """
import sys
from pathlib import Path
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import save_weights, scratch_net
run = Path(sys.argv[1])
save_weights(scratch_net(TOKENIZER, "tiny", 1), run / "tokenizer/best")
save_weights(scratch_net(PREDICTOR, "tiny", 1), run / "predictor/best")
"""


def test_a_directory_of_symbols_is_forecast_in_the_pod_and_comes_back(server: PodServer, capsys: Any) -> None:
    directory = publish(server)
    current = json.loads((directory / "current.json").read_text())
    window = {"lookback": 30, "horizon": 3, "maxContext": 64}
    current |= {"timeframe": "1d", "window": window, "data": {"clip": 5.0, "timeZone": None}}
    (directory / "current.json").write_text(json.dumps(current))
    subprocess.run([sys.executable, "-c", SAVE, str(directory / "runs" / RUN)], check=True)
    folder = Path("stocks/us")
    folder.mkdir(parents=True)
    days = [f"2024-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 29)]
    rows = [f"{day},{index + 10},{index + 12},{index + 9},{index + 11},5" for index, day in enumerate(days)]
    (folder / "A.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]))
    (folder / "B.csv").write_text("\n".join(["date,open,high,low,close,volume", rows[0].replace("12", "x"), *rows[1:]]))
    command = ["forecast", "--cluster", "--model", "m", "--input", "stocks", "--calendar", "24/7"]
    assert main([*command, "--output", "out", "--plot", "out"]) == 0
    out, err = capsys.readouterr()
    assert "A.csv: 3 bars, 2024-02-29 00:00:00 to 2024-03-02 00:00:00" in out
    assert "warning: B: " in err and "column high: 'x' is not a number" in err
    assert sorted(tree(Path("out"))) == ["A.csv", "A.png"]
    before = tree(Path("stocks"))
    assert main([*command, "--output", "stocks/us"]) == 64
    assert main([*command[:-4], "--input", "stocks/us/A.csv", "--output", "stocks/../stocks/us/A.csv"]) == 64
    assert "would be overwritten" in capsys.readouterr().err
    assert tree(Path("stocks")) == before and len(server.made) == 1 and server.pods == []


def test_submit_takes_the_options_of_its_siblings(server: PodServer, capsys: Any) -> None:
    for options in (["--cluster"], ["--context", "c"], ["--kubeconfig", os.environ["KUBECONFIG"]]):
        Path("model.yaml").write_text("kind: Nothing\n")
        assert main(["submit", "-f", "model.yaml", *options]) == 64
        assert "no such option" not in capsys.readouterr().err.lower()
