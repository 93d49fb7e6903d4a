"""docs/api/*.json, JSON Schemas of what the admin API answers, from its structs. Pure."""

from __future__ import annotations

import json

import msgspec

from mirror.admin.answers import DOCUMENTS


def render() -> dict[str, str]:
    """By file name, each with a line end at its end."""
    pages = {}
    for path, kind in DOCUMENTS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
        pages[f"{path.rpartition('/')[2]}.json"] = json.dumps(schema, indent=2) + "\n"
    return pages
