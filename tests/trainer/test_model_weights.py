"""Weights on disk and from the hub: the same files as upstream's, and clear words when they are not there."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from kronos_finance._vendor import kronos_model as upstream

from kronos_trainer.config.spec import Hub, PredictorInit, PredictorScratch, TokenizerInit
from kronos_trainer.errors import BadEnvironment, ConfigError, InputMissing
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER, Kind
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_net, load_net, save_weights, scratch_net

COMMIT = "901c26c1332695a2a8f243eb2f37243a37bea320"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    directory = tmp_path / "tokenizer"
    save_weights(scratch_net(TOKENIZER, "tiny", 0), directory)
    return directory


@pytest.mark.parametrize("size", sorted(TOKENIZERS))
def test_tokenizer_has_upstreams_keys_and_shapes(size: str) -> None:
    with torch.device("meta"):
        ours, theirs = KronosTokenizer(TOKENIZERS[size]), upstream.KronosTokenizer(**asdict(TOKENIZERS[size]))
    assert shapes(ours) == shapes(theirs)
    if size != "tiny":
        assert (len(ours.state_dict()), count(ours)) == (96, 3_958_042)


@pytest.mark.parametrize(
    ("size", "entries", "parameters"),
    [
        ("tiny", 52, None),
        ("mini", 80, 4_108_032),
        ("small", 136, 24_741_376),
        ("base", 192, 102_310_592),
        ("large", 276, 499_246_976),
    ],
)
def test_predictor_has_upstreams_keys_and_shapes(size: str, entries: int, parameters: int | None) -> None:
    with torch.device("meta"):
        ours, theirs = KronosPredictor(PREDICTORS[size]), upstream.Kronos(**asdict(PREDICTORS[size]))
    assert shapes(ours) == shapes(theirs)
    assert len(ours.state_dict()) == entries
    assert parameters is None or count(ours) == parameters


def shapes(model: torch.nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        (lambda: scratch_net(TOKENIZER, "tiny", 1), upstream.KronosTokenizer, TOKENIZER),
        (lambda: scratch_net(TOKENIZER, "2k", 1), upstream.KronosTokenizer, TOKENIZER),
        (lambda: scratch_net(PREDICTOR, "tiny", 1), upstream.Kronos, PREDICTOR),
        (lambda: scratch_net(PREDICTOR, "mini", 1), upstream.Kronos, PREDICTOR),
    ],
    ids=["tokenizer-tiny", "tokenizer-2k", "predictor-tiny", "predictor-mini"],
)
def test_directories_are_upstreams_both_ways(ours: Callable, theirs: type, kind: Kind, tmp_path: Path) -> None:
    model = ours()
    save_weights(model, tmp_path / "ours")
    loaded_upstream = theirs.from_pretrained(str(tmp_path / "ours"), strict=True)
    loaded_upstream.save_pretrained(tmp_path / "theirs")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    back = load_net(kind, tmp_path / "theirs")
    assert back.config == model.config and not back.training
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert weights_digest(tmp_path / "ours") == weights_digest(tmp_path / "theirs")


def test_config_json_of_the_base_tokenizer_has_the_published_size(tmp_path: Path) -> None:
    save_weights(scratch_net(TOKENIZER, "base", 0), tmp_path)
    assert (tmp_path / "config.json").stat().st_size == 301


def test_digest_follows_either_file(tokenizer: Path) -> None:
    before = weights_digest(tokenizer)
    edit(tokenizer, beta=0.06)
    after_config = weights_digest(tokenizer)
    (tokenizer / "model.safetensors").write_bytes(b"other")
    assert len({before, after_config, weights_digest(tokenizer)}) == 3


def test_scratch_depends_on_the_seed_alone_and_leaves_the_generator() -> None:
    torch.manual_seed(5)
    first = scratch_net(PREDICTOR, "tiny", 1).state_dict()
    drawn = torch.rand(1)
    second = scratch_net(PREDICTOR, "tiny", 1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["head.proj_s1.weight"], scratch_net(PREDICTOR, "tiny", 2).state_dict()["head.proj_s1.weight"]
    )
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def edit(directory: Path, **changes: object) -> None:
    config = json.loads((directory / "config.json").read_text()) | changes
    config = {name: value for name, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "kind", "error", "said"),
    [
        (lambda d: d.rename(d.with_name("gone")), TOKENIZER, InputMissing, "tokenizer: no such directory"),
        (lambda d: (d / "config.json").unlink(), TOKENIZER, InputMissing, "config.json: no such file"),
        (lambda d: (d / "model.safetensors").unlink(), TOKENIZER, InputMissing, "model.safetensors: no such file"),
        (lambda d: truncate(d / "model.safetensors"), TOKENIZER, InputMissing, "damaged or incomplete"),
        (lambda d: (d / "config.json").write_text('{"d_in": 6'), TOKENIZER, InputMissing, "not JSON"),
        (
            lambda d: None,
            PREDICTOR,
            ConfigError,
            "not a Kronos predictor: lacks n_layers, token_dropout_p, learn_te",
        ),
        (lambda d: edit(d, beta=None), TOKENIZER, ConfigError, "not a Kronos tokenizer: lacks beta"),
        (lambda d: edit(d, n_heads="4"), TOKENIZER, ConfigError, 'n_heads must be of type int, not "4"'),
        (lambda d: edit(d, beta=True), TOKENIZER, ConfigError, "beta must be of type float, not true"),
        (lambda d: edit(d, n_heads=5), TOKENIZER, ConfigError, "d_model 64 must be a multiple of 2 * n_heads"),
        (lambda d: edit(d, group_size=3), TOKENIZER, ConfigError, "a multiple of group_size 3"),
        (
            lambda d: edit(d, ff_dim=96),
            TOKENIZER,
            ConfigError,
            "encoder.0.ffn.w1.weight has shape [128, 64] instead of [96, 64]",
        ),
        (lambda d: edit(d, n_enc_layers=4), TOKENIZER, ConfigError, "encoder.2.norm1.weight is missing"),
        (lambda d: edit(d, n_dec_layers=2), TOKENIZER, ConfigError, "decoder.1.ffn.w1.weight is unknown"),
    ],
)
def test_unusable_weights_are_named(
    tokenizer: Path, damage: Callable, kind: Kind, error: type[Exception], said: str
) -> None:
    damage(tokenizer)
    with pytest.raises(error) as raised:
        load_net(kind, tokenizer)
    assert said in str(raised.value)
    assert str(tokenizer) in str(raised.value)


def test_origin_says_where_first_weights_came_from(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots" / COMMIT
    tokenizer.rename(snapshot.parent.with_name("moved"))
    snapshot.parent.mkdir()
    (tmp_path / "moved").rename(snapshot)
    asked: list[tuple[str, str | None, list[str]]] = []

    def fake(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    hub = initial_net(TOKENIZER, TokenizerInit(hub=Hub(repo="Neo/Tok", revision="main")), 0)
    assert hub.origin == f"hub:Neo/Tok@{COMMIT}"
    assert asked == [("Neo/Tok", "main", ["config.json", "model.safetensors"])]

    path = initial_net(TOKENIZER, TokenizerInit(path=str(snapshot)), 0)
    assert path.origin == f"path:{snapshot}"
    scratch = initial_net(PREDICTOR, PredictorInit(scratch=PredictorScratch(size="tiny")), 3)
    assert scratch.origin == "scratch:tiny"
    assert torch.equal(scratch.model.norm.weight, scratch_net(PREDICTOR, "tiny", 3).norm.weight)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Cannot reach the hub.\nMore words.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    with pytest.raises(BadEnvironment) as raised:
        initial_net(PREDICTOR, PredictorInit(hub=Hub(repo="Neo/Small", revision=None)), 0)
    message = str(raised.value)
    assert message.startswith("cannot download Neo/Small at its newest revision: Cannot reach the hub; ")
    assert "init.path" in message and "HF_HOME" in message and "\n" not in message
