"""The administrator's policy: every limit holds, at its edge, and silence limits nothing."""

import pytest
from pydantic import ValidationError

from kronos_operator.api import Spec
from kronos_operator.policy import Policy, violations


def spec(**fields: object) -> Spec:
    return Spec.model_validate({"timeframe": "1d", "data": {"source": {"claim": {"name": "bars"}}}, **fields})


GREEDY = spec(
    image="evil.example/x",
    resources={"nodes": 256, "gpusPerNode": 64},
    storage={"claim": {"name": "payroll"}},
    hubTokenSecret={"name": "hub", "key": "token"},
    comet={"project": "p", "apiKeySecret": {"name": "comet", "key": "key"}},
    podTemplate={
        "serviceAccountName": "admin",
        "priorityClassName": "highest",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "control"},
        "env": [
            {"name": "PYTHONPATH", "value": "/mnt/bars/evil"},
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}},
        ],
        "annotations": {"cdi.k8s.io/all": "nvidia.com/gpu=all"},
    },
)


def test_an_empty_policy_denies_nothing() -> None:
    assert violations(GREEDY, Policy()) == []


def test_every_breach_is_told() -> None:
    policy = Policy(
        allowed_image_prefixes=("registry.example.com/kronos", "other.example.com/"),
        allowed_service_accounts=("trainer",),
        allowed_priority_classes=("low", "high"),
        allowed_claims=("results", "quotes"),
        allowed_secrets=("models",),
        required_node_selector={"pool": "training", "zone": "a"},
        max_nodes=4,
        max_gpus=32,
        max_cpu_per_node="8",
        max_memory_per_node="32Gi",
    )
    denied = "is not allowed, since it can bring code or devices into the pod: remove it, or ask the administrator"
    assert violations(GREEDY, policy) == [
        "image evil.example/x is not allowed: it must be from registry.example.com/kronos or other.example.com/",
        f"the variable PYTHONPATH in podTemplate.env {denied} to add it to policy.allowedEnv",
        f"the annotation cdi.k8s.io/all in podTemplate.annotations {denied} to add it to policy.allowedAnnotations",
        "podTemplate.serviceAccountName admin is not allowed: remove it, or use trainer",
        "podTemplate.priorityClassName highest is not allowed: remove it, or use low or high",
        "data.source.claim bars is not allowed: use results or quotes",
        "storage.claim payroll is not allowed: use results or quotes",
        "hubTokenSecret hub is not allowed: remove it, or use models",
        "comet.apiKeySecret comet is not allowed: remove it, or use models",
        "podTemplate.env DB_PASSWORD from Secret db is not allowed: remove it, or use models",
        "podTemplate.imagePullSecrets registry is not allowed: remove it, or use models",
        "podTemplate.nodeSelector must have pool: 'training'; found 'control'",
        "podTemplate.nodeSelector must have zone: 'a'; found 'none'",
        "resources.nodes 256 is above the limit of 4",
        "16384 GPUs over all nodes are above the limit of 32",
        "resources.cpu is required, or a pod could use all of its node: set at most 8",
        "resources.memory is required, or a pod could use all of its node: set at most 32Gi",
    ]
    within = spec(
        data={"source": {"claim": {"name": "quotes"}}},
        storage={"claim": {"name": "results"}},
        hubTokenSecret={"name": "models", "key": "token"},
        image="registry.example.com/kronos/trainer:1",
        resources={"nodes": 4, "gpusPerNode": 8, "cpu": 8, "memory": "32768Mi"},
        podTemplate={
            "serviceAccountName": "trainer",
            "priorityClassName": "high",
            "nodeSelector": {"pool": "training", "zone": "a", "disk": "ssd"},
            "env": [{"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "models", "key": "k"}}}],
        },
    )
    assert violations(within, policy) == []


def test_an_absent_image_claim_or_secret_is_the_administrators_default() -> None:
    policy = Policy(
        allowed_image_prefixes=("a",),
        allowed_service_accounts=("a",),
        allowed_priority_classes=("a",),
        allowed_claims=("bars",),
        allowed_secrets=("a",),
        max_nodes=1,
    )
    assert violations(spec(), policy) == []


@pytest.mark.parametrize(
    ("field", "asked", "most", "told"),
    [
        ("cpu", "8500m", "8", ["resources.cpu 8500m is above the limit of 8 per node"]),
        ("cpu", "8000m", 8, []),
        ("memory", "1025Mi", "1Gi", ["resources.memory 1025Mi is above the limit of 1Gi per node"]),
        ("memory", "1Gi", "1024Mi", []),
    ],
)
def test_quantities_are_compared_by_value(field: str, asked: str, most: str | int, told: list[str]) -> None:
    policy = Policy.model_validate({f"max{field.title()}PerNode": most})
    assert violations(spec(resources={field: asked}), policy) == told


# The kinds of variable by which an image runs code that is not its own, or reaches devices that it was not given.
FOREIGN = """
PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONWARNINGS PYTHONBREAKPOINT LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PATH BASH_ENV
ENV GCONV_PATH GLIBC_TUNABLES NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES CUDA_VISIBLE_DEVICES
HABANA_VISIBLE_DEVICES CUDA_INJECTION64_PATH NVTX_INJECTION64_PATH NCCL_NET_PLUGIN NCCL_TUNER_PLUGIN NCCL_CONF_FILE
TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR TORCH_EXTENSIONS_DIR TORCH_DEVICE_BACKEND_AUTOLOAD KINETO_CONFIG
OMP_TOOL_LIBRARIES INTEL_LIBITTNOTIFY64 CXX TMPDIR XDG_CACHE_HOME OPENSSL_CONF OPENSSL_MODULES AWS_CONFIG_FILE
MATPLOTLIBRC MPLBACKEND PIP_INDEX_URL GIT_SSH_COMMAND PERL5LIB JAVA_TOOL_OPTIONS NODE_OPTIONS HF_HUB_TRUST_REMOTE_CODE
FI_PROVIDER_PATH
"""
HARMLESS = """
NCCL_DEBUG NCCL_SOCKET_IFNAME NCCL_IB_HCA TORCH_NCCL_BLOCKING_WAIT TORCH_DISTRIBUTED_DEBUG OMP_NUM_THREADS TZ HF_HOME
HF_HUB_OFFLINE HF_ENDPOINT HF_TOKEN COMET_API_KEY COMET_URL_OVERRIDE AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID HTTPS_PROXY
SSL_CERT_FILE CUDA_LAUNCH_BLOCKING PYTORCH_CUDA_ALLOC_CONF DB_PASSWORD NODE_NAME
"""


def with_env(*names: str) -> Spec:
    source = {"secretKeyRef": {"name": "evil", "key": "path"}}  # as some must be, and any may
    return spec(podTemplate={"env": [{"name": name, "valueFrom": source} for name in names]})


@pytest.mark.parametrize("name", FOREIGN.split())
def test_no_variable_brings_foreign_code_or_devices_into_an_allowed_image(name: str) -> None:
    assert [name in found for found in violations(with_env(name), Policy(allowed_image_prefixes=("a",)))] == [True]
    assert violations(with_env(name), Policy()) == [], "where any image may run, so may any code"


def test_variables_of_every_day_are_allowed() -> None:
    assert violations(with_env(*HARMLESS.split()), Policy(allowed_image_prefixes=("a",))) == []


def test_allowed_env_widens_by_exact_names_and_by_a_trailing_star() -> None:
    asked = with_env("PYTHONUNBUFFERED", "PYTHONPATH", "TRITON_PRINT_AUTOTUNING", "TRITON_CACHE_DIR")
    policy = Policy(allowed_image_prefixes=("a",), allowed_env=("PYTHONUNBUFFERED", "TRITON_P*"))
    refused = " ".join(violations(asked, policy))
    assert "PYTHONPATH" in refused and "TRITON_CACHE_DIR" in refused
    assert "PYTHONUNBUFFERED" not in refused and "TRITON_PRINT" not in refused
    for bad in ("*", "*PATH", "PY*PATH", ""):
        with pytest.raises(ValidationError):
            Policy(allowed_env=(bad,))


def test_labels_and_annotations_of_injectors_are_foreign_code_too() -> None:
    keys = {"vault.hashicorp.com/agent-image": "evil", "sidecar.istio.io/proxyImage": "evil", "team": "ml"}
    asked = spec(podTemplate={"annotations": keys, "labels": {"linkerd.io/inject": "enabled", "team": "ml"}})
    strict = Policy(allowed_image_prefixes=("a",))
    assert len(violations(asked, strict)) == 3
    wide = ("vault.hashicorp.com/*", "sidecar.istio.io/proxyImage", "linkerd.io/inject")
    assert violations(asked, strict.model_copy(update={"allowed_annotations": wide})) == []


@pytest.mark.parametrize(
    ("image", "prefix", "allowed"),
    [
        ("example.org/team/x:1", "example.org/team", True),
        ("example.org/team:1", "example.org/team", True),
        ("example.org/team@sha256:0", "example.org/team", True),
        ("example.org/team", "example.org/team", True),
        ("example.org/team/x", "example.org/team/", True),
        ("example.org/team-b/x", "example.org/team", False),
        ("example.org.evil/x", "example.org", False),
        ("evil/example.org/team", "example.org/team", False),
        ("example.org/te", "example.org/team", False),
        ("example.org/x:1", "example.org", True),
        ("example.org:5000/x", "example.org", False),
        ("example.org.evil.com/x", "example.org", False),
        ("example.org:5000/x:1", "example.org:5000", True),
        ("example.org:5000@sha256:0", "example.org:5000", True),
        ("example.org:50001/x", "example.org:5000", False),
        ("example.org/x:1.2", "example.org/x:", True),
        ("example.org:5000/x", "example.org:", False),
        ("example.org/x:1.2", "example.org/x:1", False),
        ("example.org/x:1@sha256:0", "example.org/x:1", True),
        ("example.org/team/../evil/x", "example.org/team", False),
        ("example.org/team//x", "example.org/team", False),
    ],
)
def test_a_prefix_counts_in_whole_segments(image: str, prefix: str, allowed: bool) -> None:
    found = violations(spec(image=image), Policy(allowed_image_prefixes=(prefix,)))
    assert (found == []) is allowed


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        ({"nodes": 2, "gpusPerNode": 0}, 0),
        ({"nodes": 2, "gpusPerNode": 2}, 4),
        ({"nodes": 2, "gpusPerNode": 1, "gpuResourceName": "amd.com/gpu", "extended": {"nvidia.com/gpu": 3}}, 8),
        ({"gpusPerNode": 0, "extended": {"nvidia.com/mig-1g.5gb": 3, "rdma/hca": 8}}, 3),
    ],
)
def test_gpus_count_however_they_are_asked_for(resources: dict[str, object], gpus: int) -> None:
    asked = spec(resources=resources)
    assert violations(asked, Policy(max_gpus=gpus)) == []
    if gpus:
        assert violations(asked, Policy(max_gpus=gpus - 1)) == [
            f"{gpus} GPUs over all nodes are above the limit of {gpus - 1}"
        ]


def test_policy_is_read_from_json_as_the_chart_writes_it() -> None:
    policy = Policy.model_validate_json('{"allowedImagePrefixes": ["a"], "maxNodes": null, "defaultQueue": "gpus"}')
    assert (policy.allowed_image_prefixes, policy.max_nodes, policy.default_queue) == (("a",), None, "gpus")
    with pytest.raises(ValidationError, match="maxNode"):
        Policy.model_validate_json('{"maxNode": 1}')
