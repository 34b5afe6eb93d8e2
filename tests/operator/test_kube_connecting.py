"""How a connection is configured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from kronos_operator.kube.connecting import Access

PROXIES = [name for plain in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (plain, plain.upper())]


@pytest.mark.parametrize("proxy", [None, "HTTPS_PROXY", "all_proxy"])
def test_the_environment_is_asked_for_a_proxy_before_each_request_only_if_it_names_one(
    proxy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    if proxy is not None:
        monkeypatch.setenv(proxy, "http://proxy.example:3128")
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {"token": "t"}}]}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config | {"apiVersion": "v1", "kind": "Config", "current-context": "c"}))

    async def trusted() -> bool:
        configuration = await Access(kubeconfig=str(path), context=None).configuration()
        return bool((configuration.client_session_kwargs or {}).get("trust_env", True))

    assert asyncio.run(trusted()) is (proxy is not None)
