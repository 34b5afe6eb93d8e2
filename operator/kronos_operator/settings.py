"""The operator's own knobs, from its environment; the chart sets them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from kronos_operator.policy import Policy

LogFormat = Literal["json", "text"]


class BadSettings(Exception):
    """A variable of the environment that cannot be used; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an installation chooses. Durations are in seconds."""

    default_image: str = ""
    namespaces: tuple[str, ...] = ()  # empty: the whole cluster
    policy: Policy = field(default_factory=Policy)
    progress_seconds: float = 30.0
    resync_seconds: float = 300.0
    metrics_port: int = 8080
    health_port: int = 8081
    log_format: LogFormat = "json"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings in the KRONOS_* variables; what is absent or empty keeps its default. Raises BadSettings."""
        log_format = environ.get("KRONOS_LOG_FORMAT") or "json"
        if log_format not in ("json", "text"):
            raise BadSettings(f"KRONOS_LOG_FORMAT must be json or text; found {log_format!r}")
        return cls(
            default_image=environ.get("KRONOS_DEFAULT_IMAGE", "").strip(),
            namespaces=tuple(filter(None, map(str.strip, environ.get("KRONOS_NAMESPACES", "").split(",")))),
            policy=_policy(environ.get("KRONOS_POLICY") or "{}"),
            progress_seconds=_seconds(environ, "KRONOS_PROGRESS_SECONDS", cls.progress_seconds),
            resync_seconds=_seconds(environ, "KRONOS_RESYNC_SECONDS", cls.resync_seconds),
            metrics_port=_port(environ, "KRONOS_METRICS_PORT", cls.metrics_port),
            health_port=_port(environ, "KRONOS_HEALTH_PORT", cls.health_port),
            log_format="text" if log_format == "text" else "json",
        )


def _policy(text: str) -> Policy:
    try:
        return Policy.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'JSON'}: {item['msg']}" for item in error.errors())
        raise BadSettings(f"KRONOS_POLICY: {problems}") from None


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise BadSettings(f"{name} must be a number of seconds, above 0 and at most 86400; found {text!r}")
    return value


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise BadSettings(f"{name} must be a port from 0 to 65535; found {text!r}")
    return int(text)
