"""The table is complete and honest: every entry does something, and the documentation is what it says."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror.settings.__main__ as generator
from mirror.settings import table
from mirror.settings.document import render
from mirror.settings.load import Flags, read
from mirror.settings.model import (
    AskingSettings,
    CleanupSettings,
    CleanupWaitSettings,
    ConfigureSettings,
    ContainerdStoreSettings,
    DirectoryStoreSettings,
    DoctorSettings,
    DownSettings,
    ServeSettings,
)
from mirror.settings.setting import Command, Setting
from mirror.settings.table import TABLE, settings_of
from tests.support.settled import settled

REPOSITORY = Path(__file__).parents[3]
EACH = [(setting, command) for setting in TABLE for command in Command if command in setting.commands]
# What must be chosen for a setting to mean anything.
NEEDS: dict[str, Flags] = {"store-dir": {"store": "directory"}, "data-dir": {"store": "directory"}}


def settle(command: Command, flags: Flags, environment: dict[str, str]) -> object:
    return settled(command, read(command, flags, environment)).settings


@pytest.mark.parametrize(("setting", "command"), EACH, ids=lambda it: getattr(it, "name", None))
def test_every_setting_changes_something(setting: Setting[object], command: Command) -> None:
    base = NEEDS.get(setting.name, {})
    before = settle(command, base, {})
    given: str | tuple[str, ...] = (setting.example,) if setting.is_repeatable else setting.example
    by_flag = settle(command, {**base, setting.field: given}, {})
    by_variable = settle(command, base, {setting.variable: setting.example})
    assert by_flag == by_variable != before


def test_names_and_fields_are_one_each() -> None:
    assert (
        len({setting.name for setting in TABLE}) == len({setting.variable for setting in TABLE}) == len(TABLE)
    )
    for setting in TABLE:
        assert setting.flag == f"--{setting.name}" and setting.name == setting.name.lower()
        assert setting.variable == f"PEILI_{setting.name.upper().replace('-', '_')}"


def test_the_table_holds_every_setting_of_its_module() -> None:
    defined = [value for value in vars(table).values() if isinstance(value, Setting)]
    assert sorted(map(id, defined)) == sorted(map(id, TABLE))


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_no_name_looks_like_what_kubernetes_injects(setting: Setting[object]) -> None:
    # A variable that the silent patterns cover could never be told from a Service's.
    from mirror.settings.load import _SERVICE_LINK

    assert not _SERVICE_LINK.fullmatch(setting.variable)


def test_secrets_are_only_in_files() -> None:
    """The settings are logged at each start."""
    words = ("secret", "token", "password", "credential", "key")
    suspicious = [setting.name for setting in TABLE if any(word in setting.name for word in words)]
    assert suspicious == [name for name in suspicious if name.endswith("-file")]


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_an_entry_is_complete(setting: Setting[object]) -> None:
    assert setting.help.endswith(".") and setting.shape and setting.commands
    assert setting.default or setting.unset, "say what happens without it"
    example = setting.parse(setting.example)
    if setting.default is not None:
        assert setting.parse(setting.default) != example
    if "|" in setting.shape and ":" not in setting.shape:
        for word in setting.shape.split("|"):
            setting.parse(word)


def _fields(kind: type) -> Iterator[str]:
    assert dataclasses.is_dataclass(kind)
    yield from (field.name for field in dataclasses.fields(kind))


MODELS = (
    ServeSettings,
    ContainerdStoreSettings,
    DirectoryStoreSettings,
    ConfigureSettings,
    CleanupSettings,
    CleanupWaitSettings,
    AskingSettings,
    DoctorSettings,
    DownSettings,
)


@pytest.mark.parametrize("field", sorted({name for kind in MODELS for name in _fields(kind)}))
def test_every_field_is_read_by_the_composition(field: str) -> None:
    """A setting that is accepted and lost is a defect. Only the composition and the commands are given settings."""
    mirror = REPOSITORY / "mirror"
    files = [
        mirror / "daemon.py",
        mirror / "origins.py",
        mirror / "herding.py",
        *(mirror / "cli").glob("*.py"),
        *(mirror / "doctor").glob("*.py"),
    ]
    assert any(field in _attributes_read(file) for file in files)


def _attributes_read(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_the_page_is_current() -> None:
    assert generator.PAGE == REPOSITORY / "docs" / "settings.md"
    assert generator.PAGE.read_text() == render(), "run make docs"


def test_the_page_names_every_setting_once_a_command() -> None:
    page = render()
    for setting in TABLE:
        assert page.count(f"| `{setting.flag}` | `{setting.variable}` |") == len(setting.commands)
    rows = [line for line in page.splitlines() if line.startswith("| `--")]
    assert len(rows) == sum(len(settings_of(command)) for command in Command)
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)


def test_the_generator_prints_or_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "PAGE", tmp_path / "settings.md")
    assert generator.main([]) == 0
    assert capsys.readouterr().out == render()
    assert generator.main(["--write"]) == 0
    assert (tmp_path / "settings.md").read_text() == render()
    assert generator.main(["--wirte"]) == 2
    assert "usage:" in capsys.readouterr().err
