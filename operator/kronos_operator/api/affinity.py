"""Kubernetes' node and pod affinity, field for field: `spec.podTemplate.affinity` of a KronosModel."""

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
    """A requirement on one label or field of a node."""

    key: LabelKey = Field(description="Label key, or metadata.name in matchFields.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="Relation of the key's value to values."
    )
    values: LabelValues = Field(
        [], description="Values to compare with. One number for Gt and Lt; none for Exists and DoesNotExist."
    )


class NodeSelectorTerm(Contract):
    """Requirements that a node must all meet."""

    match_expressions: Annotated[list[NodeRequirement], Field(max_length=16)] = Field(
        [], description="Requirements on node labels."
    )
    match_fields: Annotated[list[NodeRequirement], Field(max_length=4)] = Field(
        [], description="Requirements on node fields."
    )


class NodeSelector(Contract):
    """Terms of which a node must match at least one."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16)] = Field(
        description="Alternative terms."
    )


class PreferredNodes(Contract):
    """A weighted preference for nodes."""

    weight: Weight = Field(description="Weight added to the score of a matching node, 1 to 100.")
    preference: NodeSelectorTerm = Field(description="Term that the node should match.")


class NodeAffinity(Contract):
    """Rules for the nodes of the pods."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None, description="Nodes that may run the pods."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], Field(max_length=16)] = Field(
        [], description="Preferences among the allowed nodes."
    )


class LabelRequirement(Contract):
    """A requirement on one label."""

    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="Relation of the key's value to values."
    )
    values: LabelValues = Field([], description="Values to compare with. None for Exists and DoesNotExist.")


class LabelSelector(Contract):
    """Label requirements that must all be met."""

    match_labels: Labels = Field({}, description="Labels with exact values.")
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] = Field(
        [], description="Requirements on labels."
    )


class PodAffinityTerm(Contract):
    """Selects other pods, and the topology domain to share with them or to avoid."""

    label_selector: LabelSelector | None = Field(None, description="Selects the other pods. If unset, matches none.")
    topology_key: LabelKey = Field(description="Node label key. Nodes with equal values form one topology domain.")
    namespaces: Namespaces = Field([], description="Namespaces of the other pods. Defaults to the model's namespace.")
    namespace_selector: LabelSelector | None = Field(None, description="Selects namespaces of the other pods by label.")
    match_label_keys: LabelKeys = Field([], description="Label keys whose values the other pods share with this pod.")
    mismatch_label_keys: LabelKeys = Field(
        [], description="Label keys whose values differ between the other pods and this pod."
    )


class WeightedPodAffinityTerm(Contract):
    """A weighted preference for a topology domain."""

    weight: Weight = Field(description="Weight added to the score of a matching node, 1 to 100.")
    pod_affinity_term: PodAffinityTerm = Field(description="Term for the preferred domain.")


class PodAffinity(Contract):
    """Rules for placing pods near other pods, or away from them."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodAffinityTerm], Field(max_length=16)] = Field(
        [], description="Terms that a node must all satisfy."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[WeightedPodAffinityTerm], Field(max_length=16)
    ] = Field([], description="Preferences among the allowed nodes.")


class Affinity(Contract):
    """Affinity of the pods to nodes and to other pods."""

    node_affinity: NodeAffinity | None = Field(None, description="Rules for the nodes of the pods.")
    pod_affinity: PodAffinity | None = Field(None, description="Pods to be placed near.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Pods to be kept away from.")
