"""Kubernetes' node and pod affinity, field for field: where the pods of a gang may run. Part of the pod template."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kronos_trainer.config import Contract

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
LabelValues = Annotated[list[LabelValue], Field(max_length=32)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
Namespaces = Annotated[list[Annotated[str, Field(min_length=1, max_length=63)]], Field(max_length=32)]
LabelKeys = Annotated[list[LabelKey], Field(max_length=16)]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeRequirement(Contract):
    """A condition on one label or field of a node."""

    key: LabelKey = Field(description="Label key, or metadata.name in matchFields.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How key and values compare."
    )
    values: LabelValues = Field([], description="Values to compare with; one number for Gt and Lt, none for Exists.")


class NodeSelectorTerm(Contract):
    """Conditions that a node must meet together."""

    match_expressions: Annotated[list[NodeRequirement], Field(max_length=16)] = Field(
        [], description="Conditions on the node's labels."
    )
    match_fields: Annotated[list[NodeRequirement], Field(max_length=4)] = Field(
        [], description="Conditions on the node's fields."
    )


class NodeSelector(Contract):
    """Terms of which a node must match one."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16)] = Field(
        description="Alternatives."
    )


class PreferredNodes(Contract):
    """Nodes that are liked better."""

    weight: Weight = Field(description="Points added to a matching node, 1 to 100.")
    preference: NodeSelectorTerm = Field(description="The nodes.")


class NodeAffinity(Contract):
    """Nodes that pods need or prefer."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None, description="Only these nodes are considered."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], Field(max_length=16)] = Field(
        [], description="Among them, these are liked better."
    )


class LabelRequirement(Contract):
    """A condition on one label."""

    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How key and values compare.")
    values: LabelValues = Field([], description="Values to compare with; none for Exists and DoesNotExist.")


class LabelSelector(Contract):
    """Labels that must match, all together."""

    match_labels: Labels = Field({}, description="Labels with their exact values.")
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] = Field(
        [], description="Conditions on labels."
    )


class PodAffinityTerm(Contract):
    """Other pods, and how near to them 'together' means."""

    label_selector: LabelSelector | None = Field(None, description="The other pods. Absent: none.")
    topology_key: LabelKey = Field(description="Node label; nodes with the same value count as one place.")
    namespaces: Namespaces = Field([], description="Namespaces of the other pods. Empty: the model's own.")
    namespace_selector: LabelSelector | None = Field(None, description="Namespaces of the other pods, by their labels.")
    match_label_keys: LabelKeys = Field([], description="Labels in which the other pods equal this one.")
    mismatch_label_keys: LabelKeys = Field([], description="Labels in which the other pods differ from this one.")


class WeightedPodAffinityTerm(Contract):
    """A place that is liked better."""

    weight: Weight = Field(description="Points added to a matching node, 1 to 100.")
    pod_affinity_term: PodAffinityTerm = Field(description="The place.")


class PodAffinity(Contract):
    """Pods to be together with, or away from."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodAffinityTerm], Field(max_length=16)] = Field(
        [], description="Only places that satisfy all of these are considered."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[WeightedPodAffinityTerm], Field(max_length=16)
    ] = Field([], description="Among them, these are liked better.")


class Affinity(Contract):
    """Where pods may run, relative to nodes and to other pods."""

    node_affinity: NodeAffinity | None = Field(None, description="Nodes that pods need or prefer.")
    pod_affinity: PodAffinity | None = Field(None, description="Pods to be together with.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Pods to keep away from.")
