"""Whether a JSON value is what a schema says: the keywords that our published schemas use, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
_NOTES = {"$schema", "$defs", "title", "description"}
_KNOWN = _NOTES | {
    "$ref",
    "anyOf",
    "enum",
    "type",
    "minimum",
    "properties",
    "required",
    "items",
    "additionalProperties",
}


def violations(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Empty: it is valid. A property that the schema does not name is a violation: it would be undocumented."""
    return _check(value, schema, schema, "$")


def _check(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> list[str]:
    unknown = set(schema) - _KNOWN
    assert not unknown, f"this checker does not know {unknown}"
    if "$ref" in schema:
        return _check(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    if "anyOf" in schema:
        if any(not _check(value, one, root, where) for one in schema["anyOf"]):
            return []
        return [f"{where}: {value!r} is none of what it may be"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {schema['enum']}"]
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if "minimum" in schema and value < schema["minimum"]:
        return [f"{where}: {value!r} is below {schema['minimum']}"]
    found = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += _check(item, schema.get("items", {}), root, f"{where}[{index}]")
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}: lacks {name}" for name in schema.get("required", ()) if name not in value]
        # A dictionary says of what its values are.
        others = schema.get("additionalProperties")
        for name in value.keys() - properties.keys():
            if others is None:
                found.append(f"{where}: has {name}, which is not documented")
            else:
                found += _check(value[name], others, root, f"{where}.{name}")
        for name in value.keys() & properties.keys():
            found += _check(value[name], properties[name], root, f"{where}.{name}")
    return found


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        numbers = int if kind == "integer" else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])
