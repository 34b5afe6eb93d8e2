"""A real control plane without nodes: etcd, kube-apiserver and kube-controller-manager, for tests and benchmarks.

Pods are created by the Job controller and stay Pending: tests play the kubelet by patching their status.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "kronos-system"
RELEASE = "kronos-operator"
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm")
# What a Job needs to make and lose its pods, and an owner to take its children along.
CONTROLLERS = (
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "resourcequota-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",  # looks for mistakes in the chart's policy
)
READY_SECONDS = 90


def binaries(needed: Sequence[str] = NEEDED) -> dict[str, Path]:
    """Where the programs are: KUBEBUILDER_ASSETS, the project's cache, then PATH. RuntimeError names what to build."""
    cache = Path(os.environ.get("KRONOS_CACHE", "~/.cache/kronos-operator")).expanduser() / "bin"
    places = os.pathsep.join([os.environ.get("KUBEBUILDER_ASSETS", ""), str(cache), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=places) for name in needed}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise RuntimeError(
            f"{', '.join(missing)}: not found; run `hack/cluster/binaries {' '.join(missing)}` (minutes, once), set "
            "KUBEBUILDER_ASSETS to a folder that has them, or leave the tests that need them out by -m 'not cluster'"
        )
    return {name: Path(path) for name, path in found.items() if path}


class ControlPlane:
    """A running API server with the CRD and, as the chart gives them, the operator's own rights and their bounds.

    `also` names more programs than these three, for `run`; `flags` are arguments of any program beyond its usual ones.
    """

    def __init__(
        self, directory: Path, *, also: Sequence[str] = (), flags: Mapping[str, Sequence[str | Path]] | None = None
    ) -> None:
        self.directory = directory
        self.binaries = binaries((*NEEDED, *also))
        self._flags = flags or {}
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = directory / "admin.kubeconfig"
        self.operator_kubeconfig = directory / "operator.kubeconfig"
        self.certificate = directory / "certificates" / "apiserver.crt"
        self._etcd = f"http://127.0.0.1:{free_port()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str | Path]] = {}

    @property
    def places(self) -> set[Path]:
        """The folders of its programs."""
        return {program.parent for program in self.binaries.values()}

    def start(self) -> None:
        """Starts everything; seconds. RuntimeError with the end of the log if a program ends instead."""
        key = self.directory / "service-accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.directory / "tokens.csv").write_text('admin-token,admin,admin,"system:masters"\n')
        self._start_etcd()
        self.start_api_server()
        self._write_kubeconfig(self.kubeconfig, "admin-token")
        # The garbage collector looks for new kinds twice a minute only, so the CRD comes before it.
        self._install()
        self.run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={key}",
            "--leader-elect=false",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.directory / 'controller-manager'}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )

    def start_api_server(self) -> None:
        """Starts the API server, again if it was stopped, and waits until it is ready. Call it in the main thread."""
        key = self.directory / "service-accounts.key"
        self.run(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.certificate.parent}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",  # as every distribution does: what forbids it is not the flag
            "--profiling=false",
        )
        self.wait("kube-apiserver", self._api_ready)

    def stop_api_server(self) -> None:
        """Kills the API server at once, as a crash of its machine would."""
        self._kill("kube-apiserver")

    def run(self, name: str, *arguments: str) -> None:
        """Starts a program, which `stop` ends. Call it in the main thread."""
        self._commands[name] = [self.binaries[name], *arguments, *self._flags.get(name, ())]
        self._spawn(name)

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def _spawn(self, name: str) -> None:
        # The kernel ends the process with the thread that starts it, should that be killed before it can do so itself.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._commands[name]]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Waits until a program that was started is ready; RuntimeError with the end of its log if it never is."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            ended = self._processes[name].poll() is not None
            if ended or time.monotonic() > deadline:
                log = (self.directory / f"{name}.log").read_text()[-2000:]
                raise RuntimeError(f"{name} {'ended' if ended else 'is not ready'}:\n{log}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends the processes that were started here, the last first."""
        for name in reversed(list(self._processes)):
            self._kill(name)

    @contextmanager
    def only_etcd(self) -> Iterator[str]:
        """Stops everything but etcd, whose address this is, and starts it again at the end of the block."""
        others = [name for name in self._processes if name != "etcd"]
        for name in reversed(others):
            self._kill(name)
        yield self._etcd
        for name in others:
            if name == "kube-apiserver":
                self.start_api_server()
            else:
                self._spawn(name)

    def pid(self, name: str) -> int:
        """The process of a program that runs."""
        return self._processes[name].pid

    def write_kubeconfig_of(self, namespace: str, account: str, path: Path) -> None:
        """Makes the kubeconfig of a ServiceAccount, good for two hours."""
        where = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token = self.request("POST", where, {"spec": {"expirationSeconds": 7200}})
        self._write_kubeconfig(path, token["status"]["token"])

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """The administrator's answer from the API server; urllib.error.HTTPError for a status of 400 and above."""
        headers = {"Authorization": "Bearer admin-token", "Content-Type": content, "Accept": accept}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        with self._opener().open(request, timeout=30) as response:
            return json.loads(response.read() or "null")

    def patch(self, path: str, body: object) -> Any:
        """Merges `body` into the object at a path, or into its status if the path ends so."""
        return self.request("PATCH", path, body, content="application/merge-patch+json")

    def kubectl(self, *arguments: str | Path, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as the administrator."""
        return self._kubectl(self.kubeconfig, *arguments, input=input)

    def kubectl_as_operator(self, *arguments: str | Path, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs kubectl with the operator's own token, as somebody who has stolen it would."""
        return self._kubectl(self.operator_kubeconfig, *arguments, input=input)

    def apply(self, documents: Sequence[Any]) -> None:
        """Applies objects as the administrator and waits until new kinds are served; AssertionError if it fails."""
        done = self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))
        assert done.returncode == 0, done.stderr
        for body in documents:
            if body["kind"] == "CustomResourceDefinition":
                self.wait("kube-apiserver", lambda name=body["metadata"]["name"]: self._served(name))

    def _kubectl(self, kubeconfig: Path, *arguments: str | Path, input: str | None) -> subprocess.CompletedProcess[str]:
        command = [self.binaries["kubectl"], f"--kubeconfig={kubeconfig}", *arguments]
        return subprocess.run(command, input=input, capture_output=True, text=True, check=False)

    def _install(self) -> None:
        chart = [self.binaries["helm"], "template", RELEASE, REPOSITORY / "charts" / RELEASE]
        shown = [
            "--kube-version=1.37.0",
            "--show-only=templates/admission-policy.yaml",
            "--show-only=templates/rbac.yaml",
            "--show-only=templates/serviceaccount.yaml",
        ]
        helm = subprocess.run(
            [*chart, f"--namespace={OPERATOR_NAMESPACE}", *shown], capture_output=True, text=True, check=False
        )
        assert helm.returncode == 0, helm.stderr
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
        crd = yaml.safe_load((REPOSITORY / "manifests" / "crd.yaml").read_text())
        self.apply([namespace, crd, *yaml.safe_load_all(helm.stdout)])
        self.write_kubeconfig_of(OPERATOR_NAMESPACE, RELEASE, self.operator_kubeconfig)

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        cluster = {"server": self.server, "certificate-authority": str(self.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(content))

    def _start_etcd(self) -> None:
        peer = f"http://127.0.0.1:{free_port()}"
        self.run(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def _served(self, crd: str) -> bool:
        body = self.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
        conditions = body.get("status", {}).get("conditions") or []
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def _api_ready(self) -> bool:
        try:
            request = urllib.request.Request(f"{self.server}/readyz", headers={"Authorization": "Bearer admin-token"})
            with self._opener().open(request, timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=self.certificate)
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
