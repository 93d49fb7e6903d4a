"""Renders that several tests look at, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.helm_chart import CASES, Object, objects, template


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """helm's own."""
    return tmp_path_factory.mktemp("helm")


@pytest.fixture(scope="session")
def case(home: Path) -> Callable[[str], list[Object]]:
    """The objects of a file of tests/chart/values."""
    made: dict[str, list[Object]] = {}

    def of(name: str) -> list[Object]:
        if name not in made:
            made[name] = objects(template(4, home, CASES / f"{name}.yaml"))
        return made[name]

    return of
