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
    podTemplate={"serviceAccountName": "admin", "priorityClassName": "highest"},
)


def test_an_empty_policy_denies_nothing() -> None:
    assert violations(GREEDY, Policy()) == []


def test_every_breach_is_told() -> None:
    policy = Policy(
        allowed_image_prefixes=("registry.example.com/kronos", "other.example.com/"),
        allowed_service_accounts=("trainer",),
        allowed_priority_classes=("low", "high"),
        max_nodes=4,
        max_gpus=32,
    )
    assert violations(GREEDY, policy) == [
        "image evil.example/x is not allowed: it must be from registry.example.com/kronos or other.example.com/",
        "podTemplate.serviceAccountName admin is not allowed: leave it out, or name trainer",
        "podTemplate.priorityClassName highest is not allowed: leave it out, or name low or high",
        "resources.nodes 256 is above the limit of 4",
        "16384 GPUs over all nodes are above the limit of 32",
    ]
    within = spec(
        image="registry.example.com/kronos/trainer:1",
        resources={"nodes": 4, "gpusPerNode": 8},
        podTemplate={"serviceAccountName": "trainer", "priorityClassName": "high"},
    )
    assert violations(within, policy) == []
    assert violations(spec(resources={"nodes": 1}), policy) == [], "what is left out is the administrator's default"


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
