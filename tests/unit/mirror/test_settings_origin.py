"""What the settings of the origin amount to together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.settings import resolve
from mirror.settings.load import read
from mirror.settings.model import ServeSettings
from mirror.settings.resolve import Resolved, Surroundings
from mirror.settings.table import Command

AROUND = Surroundings(working_dir=Path("/work dir"), has_ipv6=True, is_terminal=False)


def serve(**flags: str | tuple[str, ...]) -> Resolved[ServeSettings]:
    return resolve.serve(read(Command.SERVE, flags, {}), AROUND, Path("/data"))


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        ({"docker_config": "c"}, "--docker-config has no effect with --origin steer"),
        ({"stale_private": ("r.example",), "tags": "off"}, "--stale-private has no effect with --tags off"),
        ({"tags": "upstream", "origin": "off"}, "--tags upstream answers no tag with --origin off"),
        ({"cache_size": "1GiB"}, "--cache-size has no effect on containerd's store"),
    ],
)
def test_settings_of_the_origin_that_do_nothing(
    flags: dict[str, str | tuple[str, ...]], warning: str
) -> None:
    assert [line for line in serve(**flags).warnings if line.startswith(warning)]


def test_settings_of_the_origin_that_go_together() -> None:
    assert serve(origin="relay", docker_config="c", cache_size="1GiB", stale_private=("r",)).warnings == ()
