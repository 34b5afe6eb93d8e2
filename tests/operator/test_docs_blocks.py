"""Every command, YAML and Python block of README, CONTRIBUTING and docs/*.md is one that works, as far as it says here.

- Shell: `kronos` commands are parsed by the command line itself, options and their values included, but not run;
  targets of make, modules, scripts and files of the repository must exist; of kubectl, helm and docker the files and
  values that they name are looked up. Names of programs that only the reader has are not checked.
- Shell for a cluster: its block is marked so, and every line of it is quoted, to the letter, by a test that the mark
  names, which runs it there: with other names put in for those of images, namespaces and runs.
- YAML: models, and parts of models, are validated; values are keys of the chart; what remains is known by name below,
  with the test that runs it, or is only read as YAML.
- Python: compiled, and its imports are imported.

What is executed besides: the whole tutorial (test_tutorial.py), README's Python (trainer/test_forecast_frames.py),
`make demo` (by CI), and docs/quickstart-cluster.md from top to bottom (e2e/test_quickstart.py).
"""

from __future__ import annotations

import ast
import copy
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from docs_blocks import PAGES, ROOT, Block, blocks, commands, lines, quoted

from kronos_operator.api import KronosModel
from kronos_operator.cli import app
from kronos_operator.loading import load_models

BLOCKS = [block for page in PAGES for block in blocks(page)]
CLUSTER_TOOLS = {"kubectl", "helm", "docker", "buildah"}
ON_CLUSTERS = {"submit", "pull"}  # commands of kronos that always act on one
RUN_AS_A_WHOLE, BY = "quickstart-cluster.md", "tests/e2e/test_quickstart.py"
NO_TEST_HAS = {("install.md", "docker")}  # a page's programs that no test runs, in a block that says why
# YAML that is no model: what it is by its top-level keys, and what checks it beyond being YAML.
OTHER_YAML = {
    ("install.md", "resources images patches"): "tests/cluster/test_chart_lifecycle.py",
    ("quickstart-cluster.md", "rules"): "tests/e2e/test_quickstart.py",
}
ROOT_COMMAND: Any = typer.main.get_command(app)


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def parse(words: list[str]) -> None:
    """Raises what the command line raises for these words after `kronos`; runs nothing."""
    command, context = ROOT_COMMAND, ROOT_COMMAND.context_class(ROOT_COMMAND, info_name="kronos")
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        assert name in command.commands, f"kronos has no command {name}"
        command = command.commands[name]
    command.make_context("kronos", list(words), parent=context)


def test_every_block_says_its_language_and_every_mark_is_known() -> None:
    assert len(BLOCKS) > 60
    assert [str(block) for block in BLOCKS if block.language not in ("sh", "yaml", "python", "text", "json")] == []
    assert {block.mark for block in BLOCKS} == {None, "cluster", "not run", "yours"}
    fences = {page.name: len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES}
    assert fences == {page.name: 2 * len(blocks(page)) for page in PAGES}, "a fence that is indented or not closed"
    named = [name for block in BLOCKS if block.mark == "cluster" for name in block.about.split()]
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_command_hides_in_an_indented_block() -> None:
    hidden = re.compile(r"\n\n {4,}(?:kronos|make|kubectl|helm|torchrun|\.venv/|hack/)\b.*")
    assert [found for page in PAGES for found in hidden.findall(page.read_text())] == []


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_commands_exist_with_their_options(block: Block) -> None:
    for words in commands(block.code):
        program, *arguments = words
        while program in ("time", "nice") or re.match(r"[A-Z_]+=", program):
            program, *arguments = arguments
        match program:
            case "kronos":
                parse(arguments)
            case "make":
                targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
                assert {one for one in arguments if "=" not in one} <= targets, arguments
            case "torchrun" | ".venv/bin/python" | "python":
                module = arguments[arguments.index("-m") + 1].replace(".", "/")
                places = [ROOT / side / module for side in ("trainer", "operator", "")]
                assert any(place.is_dir() or place.with_suffix(".py").is_file() for place in places), module
            case "source" | "head":
                pass
            case _ if program in CLUSTER_TOOLS:
                check_files(program, arguments)
            case _:
                assert (ROOT / program).is_file(), f"what is {program}?"
        for word in arguments:
            if re.match(r"(manifests|charts|hack|docs)/", word):
                assert (ROOT / word).exists(), word


def check_files(program: str, arguments: list[str]) -> None:
    """What a command for a cluster names of this repository: files, and values of the chart."""
    for option, value in pairwise(arguments):
        if option == "-f" and not value.startswith("-"):
            assert (ROOT / value).is_file(), value
        if option == "--build-arg":
            dockerfile = ROOT / arguments[arguments.index("-f") + 1]
            assert re.search(rf"^ARG {value.partition('=')[0]}\b", dockerfile.read_text(), re.MULTILINE), value
        if program == "helm" and option == "--set":
            place: Any = yaml.safe_load((ROOT / "charts/kronos-operator/values.yaml").read_text())
            for name in value.partition("=")[0].split("."):
                assert name in place, f"the chart has no value {value}"
                place = place[name]


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_what_needs_a_cluster_is_marked_so(block: Block) -> None:
    need = {
        words[0]
        for words in commands(block.code)
        if words[0] in CLUSTER_TOOLS
        or (
            words[0] == "kronos" and ("--cluster" in words or words[1] in ON_CLUSTERS or words[1:3] == ["data", "push"])
        )
    }
    if block.page.name == RUN_AS_A_WHOLE:
        return
    if block.mark == "not run":
        assert {(block.page.name, program) for program in need} <= NO_TEST_HAS
    else:
        assert bool(need) == (block.mark == "cluster")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mark == "cluster"], ids=str)
def test_what_needs_a_cluster_is_run_by_the_tests_that_its_mark_names(block: Block) -> None:
    page = [one.code for one in of("sh") if one.page.name == RUN_AS_A_WHOLE and one.mark is None]
    there = {name: quoted(ROOT / name) for name in block.about.split()}
    if BY in there:
        there[BY] |= {line for code in page for line in lines(code)}
    wanted = lines(block.code)
    assert [line for line in wanted if not any(line in found for found in there.values())] == []
    assert [name for name, found in there.items() if found.isdisjoint(wanted)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist_with_their_options(page: Path) -> None:
    for code in re.findall(r"`kronos ([^`]+)`", page.read_text()):
        words = [word for word in code.split() if word not in ("|", "…", "...")]
        command = ROOT_COMMAND
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            if words[0].isupper():
                break  # kronos COMMAND
            assert words[0] in command.commands, f"kronos {code}: no such command"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        known |= {"--install-completion", "--show-completion"} if command is ROOT_COMMAND else set()
        options = {word.partition("=")[0].rstrip(",") for word in words if word.startswith("-") and len(word) > 1}
        assert options <= known, f"kronos {code}"


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_valid(block: Block, tmp_path: Path) -> None:
    base = yaml.safe_load((ROOT / "manifests/examples/try_me.yaml").read_text())
    values = yaml.safe_load((ROOT / "charts/kronos-operator/values.yaml").read_text())
    for document in yaml.safe_load_all(block.code):
        if document.get("kind") == "KronosModel":
            (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
            load_models([tmp_path / "model.yaml"])
        elif document.get("kind") == "Secret":
            assert document["stringData"], "checked against its model in test_examples.py"
        elif set(document) <= {"metadata", "spec"}:
            KronosModel.model_validate(merged(base, document))
        elif set(document) <= set(values):
            merged_keys(values, document)
        else:
            checked_by = OTHER_YAML[block.page.name, " ".join(document)]
            assert checked_by is None or block.page.name in (ROOT / checked_by).read_text()


def merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A model with a part of it replaced, field by field; of initial weights and places only one may be named."""
    whole = copy.deepcopy(base)
    for name, value in part.items():
        inner = isinstance(value, dict) and isinstance(whole.get(name), dict) and name not in ("init", "source")
        whole[name] = merged(whole[name], value) if inner else value
    return whole


def merged_keys(values: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        assert name in values, f"the chart has no value {name}"
        if isinstance(value, dict) and isinstance(values[name], dict) and values[name]:
            merged_keys(values[name], value)


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_compiles_and_its_imports_are_there(block: Block) -> None:
    tree = ast.parse(block.code)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert tree.body
    exec(compile(tree, str(block), "exec"), {})


def test_python_that_is_shown_twice_is_the_same() -> None:
    readme, api = (next(b for b in of("python") if b.page.name == page) for page in ("README.md", "api.md"))
    assert readme.code == api.code, "trainer/test_forecast_frames.py runs the first"


def test_messages_that_troubleshooting_quotes_are_those_of_the_code() -> None:
    sources = [file.read_text() for side in ("operator", "trainer") for file in (ROOT / side).rglob("*.py")]
    # A message may be a formatted string, over several lines; what it inserts counts as a gap.
    told = re.sub(r'"\s*\n\s*f?"|\{[^{}]*\}', "\0", "\n".join(sources)).replace("\0", "")
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    section = page.split("## Configuration validation")[1].split("\n## ")[0]
    section += page.split("## CUDA and drivers")[1].split("\n## ")[0]
    quoted = [
        code for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for code in re.findall(r"`([^`]+)`", row)
    ]
    parts = [
        part.strip() for code in quoted for part in re.split(r"[0-9]+|\b[NM]\b|[…:;]", code) if len(part.split()) > 2
    ]
    assert len(parts) > 9
    assert [part for part in parts if " ".join(part.split()[:3]) not in told] == []
