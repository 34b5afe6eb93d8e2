"""A report says what the files of a run say: in one sentence first, the same in HTML, text and JSON, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import report_examples as examples
from report_examples import Example

from kronos_trainer import report
from kronos_trainer.backtest.document import Backtest
from kronos_trainer.config import StageName
from kronos_trainer.launch import last_report
from kronos_trainer.report import facts, text
from kronos_trainer.report.wording import digits, signed

EVIL = "<script>alert(1)</script>\x1b[31m"
SECTIONS = [
    "skill", "steps", "calibration", "fans", "symbols", "direction", "volatility", "plausibility", "training", "data",
    "configuration", "reproduce", "software",
]  # fmt: skip


class Read(HTMLParser):
    """A page as a list of its elements, with its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]


def written(example: Example, failure: str | None = None) -> tuple[str, dict[str, Any], str]:
    """HTML, facts and text of a run."""
    page, wire, said = report.write(example.run, example.paths, failure)
    assert (page, wire) == (example.paths.report, example.paths.facts)
    return page.read_text(), json.loads(wire.read_text()), said.read_text()


def assert_self_contained(page: str) -> None:
    """No script, no style or request that the page's own policy does not forbid, and nothing that it would forbid."""
    read = Read(page)
    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "iframe", "object", "embed", "link", "img", "base"})
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")], tag
        links = [attributes[name] for name in ("href", "xlink:href") if attributes.get(name)]
        # A link to a file beside it is followed by whoever clicks on it: nothing is loaded.
        assert all(link.startswith("#") or (tag == "a" and urlsplit(link)[:2] == ("", "")) for link in links)
        assert all("url(" not in value or value.startswith("url(#") for value in attributes.values())
    assert "//" not in re.sub(r"NeoQuasar|<style>.*?</style>", "", page, flags=re.DOTALL)
    (policy,) = [one["content"] for _, one in read.elements if one.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "@import" not in style and "url(" not in style


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, tuple[str, dict[str, Any], str]]:
    example = examples.judged(tmp_path_factory.mktemp("judged"))
    return example, written(example)


def test_every_number_is_that_of_the_run(judged: tuple[Example, Any]) -> None:
    example, (page, wire, said) = judged
    found = json.loads(example.paths.stage(StageName("evaluation")).evaluation.read_text())
    compared = {one["rival"]: one for one in wire["evaluation"]["comparisons"]}
    assert compared.keys() == {"start", "naive", "drift", "garch"}
    for one in found["comparisons"]:
        ours = compared[one["rival"]]
        assert ours["p"] == one["pBetter"]
        for name in ("improvement", "low", "high", "dates", "verdict", "smallestGain"):
            assert ours[name] == one[name]
        assert ours["loss"] == found["forecasters"][one["rival"]]["metrics"]["crps"]
    assert wire["evaluation"]["metrics"]["finetuned"] == found["forecasters"]["finetuned"]["metrics"]
    assert wire["evaluation"]["byStep"]["crps"]["naive"] == found["forecasters"]["naive"]["byStep"]["crps"]
    assert {fan["which"] for fan in wire["evaluation"]["fans"]} == {"best", "median", "worst"}
    tokenizer, predictor = wire["training"]
    result = json.loads(example.paths.stage(StageName("predictor")).result.read_text())
    for name in (
        "bestValidationLoss",
        "bestCrps",
        "bestStep",
        "steps",
        "seconds",
        "device",
        "precision",
        "samplesPerSecond",
        "peakGpuBytes",
    ):
        assert predictor[name] == result[name]
    assert predictor["gpuHours"] == pytest.approx(2 * result["seconds"] / 3600) and tokenizer["interruptions"] == 1
    assert (tokenizer["validationLoss"]["steps"][0], tokenizer["validationLoss"]["values"][0]) == (0, 0.52)
    assert wire["data"]["spans"]["embargo"] == list(examples.SPANS["embargo"])
    assert list(wire["data"]["spans"]) == ["train", "validation", "embargo", "test"]
    differing = {one["field"]: one["value"] for one in wire["settings"] if one["differs"]}
    assert differing == {
        "timeframe": "1d", "data.source": "path data/us-daily", "window.horizon": 15, "tokenizer.epochs": 6,
        "predictor.epochs": 12, "predictor.learningRate": 4e-5, "training.windowsPerEpoch": 6400,
    }  # fmt: skip
    assert wire["scores"] == [], "an evaluation's own have a better place"
    # The same in what people read.
    lower = digits(compared["start"]["improvement"])
    assert f"CRPS lower by {lower} % (90 % interval " in said.replace("\n", " ")
    plain = re.sub(r"\s+", " ", " ".join(Read(page).texts).replace("\xa0", " "))
    for one in compared.values():
        assert f"{one['label']} {signed(one['improvement'])} {signed(one['low'])} to {signed(one['high'])}" in plain
    assert all(note.partition(":")[0] in plain for note in examples.NOTES)
    assert Read(page).sections == SECTIONS


def test_the_lines_that_recompute_a_p_value_do_so(judged: tuple[Example, Any]) -> None:
    example, (page, wire, _) = judged
    (program,) = [one for one in Read(page).texts if "diebold_mariano_test" in one]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=example.paths.run_dir, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    computed = {line.split()[0]: [float(one) for one in line.split()[1:]] for line in done.stdout.splitlines()}
    for one in wire["evaluation"]["comparisons"]:
        assert computed[one["rival"]] == pytest.approx([one["improvement"], one["p"]])


def test_a_run_has_one_report_byte_for_byte(judged: tuple[Example, Any]) -> None:
    example, (page, _, said) = judged
    facts_before = example.paths.facts.read_bytes()
    example.paths.report.unlink()
    command = [sys.executable, "-m", "kronos_trainer.report", example.run.model.name, "--root", str(example.paths.root)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(example.paths.report)
    assert example.paths.report.read_text() == page
    assert example.paths.facts.read_bytes() == facts_before
    (file,) = (example.paths.root / "logs").glob("training_report_*.txt")
    assert file.name == "training_report_20260301T091441Z.txt" and file.read_text() == said


def test_one_symbol_is_below_500_kilobytes_and_self_contained(judged: tuple[Example, Any]) -> None:
    _, (page, _, said) = judged
    assert len(page.encode()) < 500_000
    assert_self_contained(page)
    assert max(map(len, said.splitlines())) <= text.WIDTH


def test_the_backtest_of_the_run_is_told_in_a_sentence_with_a_link_to_its_page(tmp_path: Path) -> None:
    example = examples.judged(tmp_path)
    told = {"verdict": "May be luck", "sentence": f"Long or flat: +3.1 % after costs. {EVIL}"}
    files = example.paths.backtest
    example.write(files.summary, Backtest(hash=examples.HASHES["evaluation"], **told).dump())
    page, wire, said = written(example)
    assert written(example) == (page, wire, said)
    assert_self_contained(page)
    read = Read(page)
    assert read.sections == [*SECTIONS[:8], "backtest", *SECTIONS[8:]]
    (link,) = [attributes["href"] for tag, attributes in read.elements if tag == "a"]
    assert wire["backtest"] == told | {"page": link}
    assert (example.paths.report.parent / link).resolve() == files.page.resolve()
    for shown in ("".join(read.texts).replace("\N{NO-BREAK SPACE}", " "), said):
        assert "May be luck. Long or flat: +3.1 % after costs." in " ".join(shown.split())
    assert f"more in {link}" in said and "\x1b" not in page + said

    for other in (Backtest(hash="another", **told).dump(), "{"):
        example.write(files.summary, other)
        page, wire, said = written(example)
        assert Read(page).sections == SECTIONS and wire["backtest"] is None and "Backtest" not in said


def test_5000_symbols_are_below_5_megabytes(tmp_path: Path) -> None:
    example = examples.judged(tmp_path, symbols=[f"SYM{number:04d}" for number in range(5000)], fans=40)
    page, wire, said = written(example)
    assert len(page.encode()) < 5_000_000
    assert_self_contained(page)
    assert len(wire["evaluation"]["bySymbol"]) == 5000 and "SYM4999" in page
    fans = {fan["symbol"] for fan in wire["evaluation"]["fans"]}
    ranked = sorted(
        (one for one in wire["evaluation"]["bySymbol"] if int(one["symbol"][3:]) < 40), key=lambda one: one["loss"]
    )
    assert len(fans) == 6 and {ranked[0]["symbol"], ranked[-1]["symbol"]} <= fans
    assert "4,990 more in report.json" in said and len(said.splitlines()) < 200


def test_whatever_a_run_says_is_text_and_nothing_else(tmp_path: Path) -> None:
    example = examples.judged(
        tmp_path,
        symbols=["AAA", EVIL],
        verdicts={"naive": {"verdict": "NotOutOfSample", "refused": EVIL}, "drift": {"rival": EVIL}},
        contaminated=EVIL,
        leftOut={EVIL: EVIL},
        cut=EVIL,
        promotion={"decision": EVIL, "message": EVIL, "published": EVIL},
    )
    files = example.paths.stage(StageName("predictor"))
    result = json.loads(files.result.read_text())
    result["data"]["notes"] = [EVIL]
    files.result.write_text(
        json.dumps(result | dict.fromkeys(("device", "precision", "origin", "run", "digest"), EVIL))
    )
    example.write(example.paths.calibration, json.dumps(examples.CALIBRATION | {"note": EVIL}))
    page, _, said = written(example, EVIL)
    assert_self_contained(page)
    assert "\x1b" not in page + said
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 15 and "<script" not in page
    assert [tag for tag, _ in Read(page).elements if tag == "script"] == []
    assert "<script>alert(1)</script>" in said


def test_a_run_that_nobody_has_judged_says_so(tmp_path: Path) -> None:
    page, wire, said = written(examples.trained(tmp_path))
    assert wire["verdict"]["badge"] == "Not judged" and wire["evaluation"] is None
    assert wire["verdict"]["sentence"].startswith("model-b-1d was not judged: its run has no evaluation")
    assert wire["verdict"]["limits"] == [
        "Tokenizer: validation loss 0.5200 → 0.3353 (−35.5 %).",
        "Predictor: CRPS of forecasts on the validation span 3.4000 → 2.8265 (−16.9 %).",
    ]
    assert Read(page).sections == ["training", "data", "configuration", "reproduce", "software"]
    assert "NOT JUDGED" in said
    assert_self_contained(page)


def test_a_failed_run_says_what_happened_and_how_far_it_came(tmp_path: Path) -> None:
    example = examples.trained(tmp_path)
    files = example.paths.stage(StageName("predictor"))
    files.result.unlink()
    example.write(files.pointer, json.dumps({"latest": {"directory": "step-1100", "step": 1100, "digest": "d"}}))
    page, wire, said = written(example, "a gradient became NaN or infinite in step 1203; lower predictor.learningRate")
    assert wire["verdict"]["badge"] == "Failed"
    assert wire["verdict"]["sentence"] == (
        "model-b-1d is not finished: its predictor failed. A gradient became NaN or infinite in step 1203; lower "
        "predictor.learningRate."
    )
    last = wire["failure"]["last"]
    assert (last["step"], last["epoch"], last["checkpoint"]) == (1200, 12, 1100)
    assert wire["training"][1]["steps"] == 1200 and wire["training"][1]["outcome"] == "not complete"
    assert "lower predictor.learningRate" in said and "the checkpoint of step 1,100" in said
    assert Read(page).sections[0] == "failure"
    # The same stage, once it is complete.
    _, wire, _ = written(examples.trained(tmp_path))
    assert wire["failure"] is None


def test_a_run_that_failed_before_anything_has_a_report_too(tmp_path: Path) -> None:
    page, wire, said = written(Example(tmp_path, stage="tokenizer"), "data/us-daily: no such file; mount it")
    assert wire["failure"]["last"] is None and "no such file; mount it" in page and "mount it" in said
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["training_report_run-7d21c0.txt"]


def test_nothing_that_a_report_cannot_do_hides_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Example(tmp_path, stage="tokenizer").run

    def broken(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(report, "write", broken)
    last_report.leave(run, "why")
    assert capsys.readouterr().err == "note: the report of this failure could not be written: no room\n"


def test_a_failure_is_not_written_over_what_a_later_attempt_has_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = Example(tmp_path, stage="tokenizer", attempt=5)
    last_report.leave(later.run, "the later one")
    last_report.leave(Example(tmp_path, stage="tokenizer", attempt=4).run, "the earlier one")
    assert json.loads(later.paths.facts.read_text())["failure"]["message"] == "the later one"
    assert "attempt 4 is outdated" in capsys.readouterr().err


def test_an_evaluation_of_another_configuration_is_not_this_runs(tmp_path: Path) -> None:
    example = examples.judged(tmp_path)
    other = Example(tmp_path, stage_hashes=examples.HASHES | {"evaluation": "0" * 12})
    assert facts.gather(example.run, example.paths).verdict.badge == "Better"
    assert facts.gather(other.run, other.paths).verdict.badge == "Not judged"


def test_a_lost_evaluation_leaves_its_summary(tmp_path: Path) -> None:
    example = examples.judged(tmp_path)
    example.paths.stage(StageName("evaluation")).evaluation.write_text("{")
    page, wire, _ = written(example)
    assert wire["verdict"]["badge"] == "Better" and len(wire["evaluation"]["comparisons"]) == 4
    assert "skill" in Read(page).sections and "fans" not in Read(page).sections


def test_two_models_of_the_same_second_both_keep_their_text(tmp_path: Path) -> None:
    texts = [written(examples.trained(tmp_path, name))[2] for name in ("model-a", "model-b", "model-b")]
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == [
        "training_report_20260301T090205Z.txt", "training_report_20260301T090205Z_default_model-b.txt",
    ]  # fmt: skip
    assert [path.read_text() for path in files] == texts[:2]
