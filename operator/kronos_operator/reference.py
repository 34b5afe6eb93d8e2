"""Every field of a KronosModel as Markdown: `python -m kronos_operator.reference` prints docs/model.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kronos_operator.crd import custom_resource_definition
from kronos_operator.names import API_VERSION, KIND

_HEAD = f"""\
# Fields of a {KIND}

Generated from the CustomResourceDefinition (`make generate`); `kubectl explain kronosmodel.spec` prints the same text.
`apiVersion` is `{API_VERSION}`. A field without a default is optional unless marked *required*.
The operator passes hyper-parameters to the trainer unchanged.
"""


def reference() -> str:
    """The page."""
    (version,) = custom_resource_definition()["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    parts = [_HEAD]
    for title, name in (("Spec", "spec"), ("Status", "status")):
        parts.append(f"\n## {title}\n\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n")
        parts += [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n"
            for row in _rows(properties[name], name)
        ]
    return "".join(parts)


def _rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """A row for each field below an object, the object itself before its fields."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        kind, inner = _kind(field)
        default = f"`{json.dumps(field['default'])}`" if "default" in field and "properties" not in field else ""
        yield f"`{here}`", kind, "*required*" if name in required else default, field.get("description", "")
        yield from _rows(inner, here + ("[]" if field.get("type") == "array" else ""))


def _kind(field: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A field's type in words, and the schema whose fields are to be listed below it."""
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string", {}
    if field.get("type") == "array":
        kind, inner = _kind(field["items"])
        return f"list of {kind}", inner
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of {_kind(field['additionalProperties'])[0]}", {}
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"]), {}
    bounds = []
    for key, strict, sign in (("minimum", "exclusiveMinimum", ">"), ("maximum", "exclusiveMaximum", "<")):
        if key in field:
            bounds.append(f"{sign if field.get(strict) else sign + '='} {field[key]:g}")
    return " ".join([field.get("type", "any"), *bounds]), field


if __name__ == "__main__":
    print(reference(), end="")
