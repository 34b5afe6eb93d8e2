"""The shipped examples: valid as they are, and with the overrides of the demo."""

from pathlib import Path

import pytest
import yaml

from kronos_operator.loading import load_models
from kronos_trainer.config import TRIAL

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "manifests" / "examples"
EXAMPLES = sorted(FOLDER.glob("model_*.yaml"))
PRESETS = {
    f"{name}.yaml"
    for name in (  # tests: test_presets.py
        "stocks_5m",
        "stocks_15m",
        "stocks_1h",
        "stocks_1w",
        "crypto_1h",
        "ashares_30m",
        "fx_1h",
    )
}
SCRATCH = ("tokenizer.init.scratch.size=tiny", "predictor.init.scratch.size=tiny")


def test_there_are_examples() -> None:
    assert [file.name for file in EXAMPLES] == ["model_a_4h.yaml", "model_b_1d.yaml"]
    others = {"claims.yaml", "try_me.yaml", *PRESETS}
    assert {file.name for file in FOLDER.iterdir()} - {file.name for file in EXAMPLES} == others


@pytest.mark.parametrize("file", [*EXAMPLES, *(FOLDER / name for name in sorted(PRESETS))], ids=lambda file: file.name)
@pytest.mark.parametrize("overrides", [(), SCRATCH], ids=["as it is", "from scratch"])
def test_example_is_valid(file: Path, overrides: tuple[str, ...]) -> None:
    (loaded,) = load_models([file], overrides=overrides)
    spec = loaded.model.spec
    assert loaded.model.metadata.name == file.stem.replace("_", "-")
    assert spec.storage is not None, "a cluster needs it"
    for stage in (spec.tokenizer, spec.predictor):
        assert (stage.batch_size, stage.micro_batch_size) == (64, None)
        assert (stage.init.scratch is not None) == bool(overrides)


def test_the_demo_is_a_trial() -> None:
    demo = (REPOSITORY / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
    assert [one for one in TRIAL if f"--set {one}" not in demo] == []


def test_the_model_to_try_fits_any_cluster_and_downloads_nothing() -> None:
    (loaded,) = load_models([FOLDER / "try_me.yaml"])
    spec = loaded.model.spec
    assert (spec.resources.nodes, spec.resources.gpus_per_node) == (1, 0)
    for stage in (spec.tokenizer, spec.predictor):
        assert stage.init.scratch is not None and stage.init.scratch.size == "tiny" and stage.epochs <= 3
    assert spec.comet is None and spec.image is None


def test_the_claims_are_those_that_every_example_names() -> None:
    claims = {claim["metadata"]["name"] for claim in yaml.safe_load_all((FOLDER / "claims.yaml").read_text())}
    for file in [*EXAMPLES, FOLDER / "try_me.yaml", *(FOLDER / name for name in PRESETS)]:
        spec = load_models([file])[0].model.spec
        assert spec.data.source.claim is not None and spec.storage is not None and spec.storage.claim is not None
        assert {spec.data.source.claim.name, spec.storage.claim.name} == claims


def test_presets_keep_their_numbers() -> None:
    four_hours, daily = (load_models([file])[0].model.spec for file in EXAMPLES)
    for spec, window, rates, epochs in (
        (four_hours, (90, 10), (1.5e-4, 3e-5), 30),
        (daily, (120, 15), (1e-4, 2e-5), 50),
    ):
        assert (spec.window.lookback, spec.window.horizon) == window
        assert (spec.tokenizer.learning_rate, spec.predictor.learning_rate) == rates
        assert {spec.tokenizer.epochs, spec.predictor.epochs} == {epochs}
    assert four_hours.comet is not None and four_hours.comet.tags == ["model_a_4h_finetune"]
    assert daily.comet is not None and daily.comet.tags == ["model_b_1d_macro_finetune"]


def test_the_object_stores_example_is_valid_and_its_secret_has_the_keys_that_it_names(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "object-stores.md").read_text().split("```yaml\n")[1].split("```")[0]
    secret, model = text.split("---\n")
    (tmp_path / "model.yaml").write_text(model)
    (loaded,) = load_models([tmp_path / "model.yaml"])
    spec = loaded.model.spec
    assert spec.storage is not None and spec.storage.uri and spec.data.source.uri
    keys = yaml.safe_load(secret)
    sources = [variable.value_from and variable.value_from.secret_key_ref for variable in spec.pod_template.env]
    named = {(source.name, source.key) for source in sources if source}
    assert named == {(keys["metadata"]["name"], key) for key in keys["stringData"]}
