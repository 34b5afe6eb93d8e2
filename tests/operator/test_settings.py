from __future__ import annotations

import pytest

from kronos_operator.__main__ import main
from kronos_operator.policy import Policy
from kronos_operator.settings import BadSettings, Settings


def test_what_is_not_set_keeps_its_default() -> None:
    assert Settings.from_environ({}) == Settings()
    assert (
        Settings.from_environ({"KRONOS_NAMESPACES": "", "KRONOS_POLICY": "", "KRONOS_METRICS_PORT": ""}) == Settings()
    )


def test_every_knob() -> None:
    settings = Settings.from_environ(
        {
            "KRONOS_DEFAULT_IMAGE": "example.org/trainer:1",
            "KRONOS_NAMESPACES": "a, b,",
            "KRONOS_POLICY": '{"maxNodes": 2}',
            "KRONOS_PROGRESS_SECONDS": "0.5",
            "KRONOS_RESYNC_SECONDS": "60",
            "KRONOS_METRICS_PORT": "0",
            "KRONOS_HEALTH_PORT": "9",
            "KRONOS_LOG_FORMAT": "text",
        }
    )
    assert settings == Settings(
        default_image="example.org/trainer:1",
        namespaces=("a", "b"),
        policy=Policy(max_nodes=2),
        progress_seconds=0.5,
        resync_seconds=60.0,
        metrics_port=0,
        health_port=9,
        log_format="text",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KRONOS_POLICY", '{"maxNode": 2}'),
        ("KRONOS_POLICY", "{"),
        ("KRONOS_PROGRESS_SECONDS", "0"),
        ("KRONOS_PROGRESS_SECONDS", "nan"),
        ("KRONOS_RESYNC_SECONDS", "soon"),
        ("KRONOS_METRICS_PORT", "65536"),
        ("KRONOS_HEALTH_PORT", "-1"),
        ("KRONOS_LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name):
        Settings.from_environ({name: value})


def test_the_process_ends_at_once_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KRONOS_RESYNC_SECONDS", "soon")
    assert main() == 64
    assert "KRONOS_RESYNC_SECONDS must be a number of seconds" in capsys.readouterr().err
