"""The chart's page is what values.yaml says, and the docs speak of values and commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tests.support.chart_readme as generator
from mirror.settings.table import TABLE
from tests.support.chart_readme import page, values
from tests.support.helm_chart import CHART, REPOSITORY

PATHS = {".".join(value.path) for value in values((CHART / "values.yaml").read_text())}
PAGES = ["docs/kubernetes.md", "docs/migrate-from-spegel.md", "helm/peili/README.md", "README.md"]


def test_the_page_is_current() -> None:
    assert (CHART / "README.md").read_text() == page(), "run python -m tests.support.chart_readme --write"


def test_the_generator_prints_or_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("README.md", "values.yaml"):
        (tmp_path / name).write_bytes((CHART / name).read_bytes())
    assert generator.main([]) == 0
    assert capsys.readouterr().out == page()
    monkeypatch.setattr(generator, "CHART", tmp_path)
    assert generator.main(["--write"]) == 0
    assert generator.main(["--wirte"]) == 2


def test_a_comment_is_of_the_value_below_it() -> None:
    text = "# Head.\n\na:\n  # -- First,\n  # second.\n  b: 1\n  c: 2\n# -- Last.\nd:\n  - e: f\n"
    assert [(it.path, it.about, it.default) for it in values(text)] == [
        (("a", "b"), "First, second.", 1),
        (("d",), "Last.", [{"e": "f"}]),
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_values_that_there_are(name: str) -> None:
    """Spegel's own are in the first column of a table there."""
    text = (REPOSITORY / name).read_text()
    if name == "docs/migrate-from-spegel.md":
        text = re.sub(r"^\| `[^|]*\|", "|", text, flags=re.MULTILINE)
    heads = {path.split(".")[0] for path in PATHS}
    named = {
        it for it in re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)[=:`]", text) if it.split(".")[0] in heads
    }
    parents = {path.rpartition(".")[0] for path in PATHS}
    # What Kubernetes defines stands below a value.
    unknown = {it for it in named - PATHS - parents if not any(it.startswith(f"{path}.") for path in PATHS)}
    assert unknown == set()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_flags_that_there_are(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    flags = {setting.flag for setting in TABLE}
    said = set(re.findall(r"peili (?:serve|configure|cleanup|cleanup-wait)\b[^`\n]*?(--[a-z-]+)", text))
    assert said <= flags


@pytest.mark.parametrize("name", PAGES)
def test_a_page_leads_to_pages_that_there_are(name: str) -> None:
    path = REPOSITORY / name
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target
