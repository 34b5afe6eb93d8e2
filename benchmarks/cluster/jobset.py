"""The same models as JobSets, without the operator: sigs.k8s.io/jobset, a controller in Go, on a control plane alike.

Its controller runs as its manifest starts it, with its own ServiceAccount, role and webhooks; only that the API server
calls these by URL, with a certificate made here, and that its client is held back by nothing, as the others are not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from control_plane import free_port

from benchmarks.cluster.audit import AuditLog, tally
from benchmarks.cluster.faked import FakedCluster
from benchmarks.cluster.process import Measured
from benchmarks.cluster.scenario import NAMESPACE, at_once, model_of, name_of
from kronos_operator.api import KronosModel
from kronos_operator.backends.job import JOB
from kronos_operator.kube import Cluster, Kind
from kronos_operator.manifests import AttemptTemplate
from kronos_operator.plan import Observed, plan, start_of
from kronos_trainer.config import StageName

USER = "system:serviceaccount:jobset-system:jobset-controller-manager"
_JOBSET = Kind(group="jobset.x-k8s.io", version="v1alpha2", plural="jobsets", kind="JobSet")
_SYSTEM, _ACCOUNT = USER.split(":")[2:]
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_PATIENCE = 3600.0


@dataclass(frozen=True, kw_only=True)
class JobSets:
    """JobSets from their creation to Completed, and their deletion."""

    models: int
    seconds: float  # until the last was completed
    writes: Counter[str]  # of its controller
    reads: Counter[str]
    cpu_seconds: float
    peak_mib: float
    expired: int
    deletions: Counter[str]  # of its controller, for so many that have expired


class JobSetCluster(FakedCluster):
    """A faked cluster with the JobSet controller."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, also=("jobset",))

    @property
    def controller(self) -> Measured:
        """Its process."""
        return Measured(self.pid("jobset"))

    def start(self) -> None:
        """Starts everything, the JobSet controller too."""
        super().start()
        port, health = free_port(), free_port()
        source = self._source()
        certificates = self.directory / "jobset"
        certificates.mkdir()
        _make_certificate(certificates)
        crd = yaml.safe_load((source / "crd" / "bases" / "jobset.x-k8s.io_jobsets.yaml").read_text())
        self.apply([crd, *_identity(source)])
        kubeconfig = self.directory / "jobset.kubeconfig"
        self.write_kubeconfig_of(_SYSTEM, _ACCOUNT, kubeconfig)
        configuration = {
            "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
            "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(certificates)},
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
            "clientConnection": {"qps": 5000, "burst": 10000},
        }
        (self.directory / "jobset.yaml").write_text(json.dumps(configuration))
        self.run("jobset", f"--kubeconfig={kubeconfig}", f"--config={self.directory / 'jobset.yaml'}")
        self.wait("jobset", lambda: _answers(f"http://127.0.0.1:{health}/readyz"))
        shown = self.kubectl("kustomize", source / "webhook")
        assert shown.returncode == 0, shown.stderr
        self.apply(list(_by_url(shown.stdout, f"https://127.0.0.1:{port}", certificates / "tls.crt")))
        # The API server calls a webhook that was just registered a moment later; a bad JobSet is refused once it does.
        self.wait("jobset", self._refuses)

    def completed(self) -> int:
        """How many JobSets are completed; the API server says it in few words, from its cache."""
        table = self._table()
        column = [one["name"] for one in table["columnDefinitions"]].index("TerminalState")
        return sum(row["cells"][column] == "Completed" for row in table["rows"])

    def left(self) -> int:
        """How many JobSets there are."""
        return len(self._table()["rows"])

    def _table(self) -> Any:
        return self.request("GET", f"{_JOBSET.path(NAMESPACE)}?resourceVersion=0", accept=_TABLE)

    def _refuses(self) -> bool:
        bad = _jobset(0)
        bad["spec"]["replicatedJobs"][1]["dependsOn"][0]["name"] = "nobody"
        done = self.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(bad))
        return done.returncode != 0 and "cannot depend on" in done.stderr

    def _source(self) -> Path:
        """The manifests in the module that the program was built from."""
        program = self.binaries["jobset"].resolve()
        module = program.parent.parent / "src" / program.name
        command = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/jobset"]
        found = subprocess.run(command, cwd=module, capture_output=True, text=True, check=True)
        return Path(found.stdout.strip()) / "config" / "components"


async def jobsets(admin: Cluster, cluster: JobSetCluster, models: int, expired: int) -> JobSets:
    """Creates the models as fast as the API server takes them, waits for their end, and lets the first ones expire."""
    audit, controller = AuditLog(cluster.audit_log, USER), cluster.controller
    audit.read()
    cpu, start = controller.cpu_seconds, time.monotonic()
    await at_once(partial(admin.create, _JOBSET, _jobset(n)) for n in range(models))
    await _until(lambda: cluster.completed() == models)
    seconds = time.monotonic() - start
    await asyncio.sleep(2)  # what it writes at last
    requests = audit.read()
    measured = JobSets(
        models=models,
        seconds=seconds,
        writes=tally(requests, writes=True),
        reads=tally(requests, writes=False),
        cpu_seconds=controller.cpu_seconds - cpu,
        peak_mib=controller.peak_mib,
        expired=expired,
        deletions=Counter(),
    )
    patch = {"spec": {"ttlSecondsAfterFinished": 0}}
    await at_once(
        partial(admin.patch, _JOBSET, NAMESPACE, name_of(n), patch, manager="benchmark") for n in range(expired)
    )
    await _until(lambda: cluster.left() == models - expired)
    writes = tally(audit.read(), writes=True)
    return replace(measured, deletions=writes)


async def _until(done: Any) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not await asyncio.to_thread(done):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the JobSets have not come so far within {_PATIENCE:.0f} s; see jobset.log")
        await asyncio.sleep(2)


def _jobset(number: int) -> dict[str, Any]:
    """The two stages of a model, each with the Job that the operator would make; only their order is JobSet's."""
    model = KronosModel.model_validate(model_of(number))
    begun = plan(model, Observed(), 0.0).run
    assert begun is not None
    start, jobs = start_of(begun), list[dict[str, Any]]()
    for attempt, stage in enumerate(StageName.with_weights()):
        template = AttemptTemplate(
            model=model, uid="", start=replace(start, stage=stage, attempt=attempt), image="example.org/trainer:1"
        )
        job = {"name": stage.short, "replicas": 1, "template": {"spec": JOB.workload(template)["spec"]}}
        jobs.append(job | ({"dependsOn": [{"name": jobs[-1]["name"], "status": "Complete"}]} if jobs else {}))
    return {
        "apiVersion": _JOBSET.api_version,
        "kind": _JOBSET.kind,
        "metadata": {"name": name_of(number), "namespace": NAMESPACE},
        # A gang of one pod needs no Service, and the operator makes none either.
        "spec": {"network": {"enableDNSHostnames": False}, "replicatedJobs": jobs},
    }


def _identity(source: Path) -> Iterator[dict[str, Any]]:
    """Namespace, ServiceAccount, and the module's role, bound to it."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _SYSTEM}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _ACCOUNT, "namespace": _SYSTEM}}
    role = yaml.safe_load((source / "rbac" / "role.yaml").read_text())
    role["metadata"]["name"] = "jobset"
    yield role
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "jobset"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "jobset"},
        "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": _SYSTEM}],
    }


def _by_url(manifests: str, server: str, certificate: Path) -> Iterator[dict[str, Any]]:
    """The module's webhooks, called by URL instead of through a Service, which would need a pod."""
    bundle = base64.b64encode(certificate.read_bytes()).decode()
    for document in yaml.safe_load_all(manifests):
        if document["kind"].endswith("WebhookConfiguration"):
            for hook in document["webhooks"]:
                hook["clientConfig"] = {"url": server + hook["clientConfig"]["service"]["path"], "caBundle": bundle}
            yield document


def _make_certificate(directory: Path) -> None:
    names = ["-subj", "/CN=jobset", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", directory / "tls.key", "-out", directory / "tls.crt"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
