"""docs/api is what the structs say, and says what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mirror.admin.__main__ as generator
from mirror.admin.answers import DOCUMENTS
from mirror.admin.schemas import render
from tests.support.admin_views import IMAGES, PEERS, STATUS
from tests.support.json_schema import violations

REPOSITORY = Path(__file__).parents[3]
PUBLISHED = REPOSITORY / "docs" / "api"


def test_the_published_schemas_are_current() -> None:
    assert generator.FOLDER == PUBLISHED
    assert {path.name: path.read_text() for path in PUBLISHED.iterdir()} == render(), (
        "run python -m mirror.admin --write"
    )


@pytest.mark.parametrize("told", [STATUS, PEERS, IMAGES], ids=lambda told: type(told).__name__.lower())
def test_an_answer_is_what_its_schema_says(told: Any) -> None:
    schema = json.loads((PUBLISHED / f"{type(told).__name__.lower()}.json").read_text())
    document = json.loads(msgspec.json.encode(told))
    assert violations(document, schema) == []
    for name in document:
        lacking = {other: value for other, value in document.items() if other != name}
        assert violations(lacking, schema) == [f"$: lacks {name}"]
    assert violations({**document, "more": 1}, schema) == ["$: has more, which is not documented"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("size_bytes", -1), ("size_bytes", "1"), ("blobs", 1.5), ("advertised", 1), ("name", None)],
)
def test_a_wrong_value_is_seen(name: str, value: object) -> None:
    schema = json.loads((PUBLISHED / "images.json").read_text())
    document = json.loads(msgspec.json.encode(IMAGES))
    document["images"][0][name] = value
    assert len(violations(document, schema)) == 1


def test_the_page_names_every_document() -> None:
    page = (REPOSITORY / "docs" / "admin-api.md").read_text()
    for path in DOCUMENTS:
        assert f"`{path}`" in page and f"(api/{path.rpartition('/')[2]}.json)" in page


def test_the_generator_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "FOLDER", tmp_path / "api")
    assert generator.main(["--write"]) == 0
    assert {path.name for path in (tmp_path / "api").iterdir()} == set(render())
    assert generator.main([]) == 2
