"""What the settings of the origin, and of what is fetched from it, amount to together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import SettingsError
from mirror.settings import resolve
from mirror.settings.load import read
from mirror.settings.model import ContainerdStoreSettings, ServeSettings
from mirror.settings.resolve import Resolved, Surroundings
from mirror.settings.setting import Command

AROUND = Surroundings(working_dir=Path("/work dir"), has_ipv6=True, is_terminal=False)


def serve(**flags: str | tuple[str, ...]) -> Resolved[ServeSettings]:
    return resolve.serve(read(Command.SERVE, flags, {}), AROUND, Path("/data"))


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        ({"docker_config": "c"}, "--docker-config has no effect with --origin steer"),
        ({"stale_private": ("r.example",), "tags": "off"}, "--stale-private has no effect with --tags off"),
        ({"tags": "upstream", "origin": "off"}, "--tags upstream answers no tag with --origin off"),
    ],
)
def test_settings_of_the_origin_that_do_nothing(
    flags: dict[str, str | tuple[str, ...]], warning: str
) -> None:
    assert [line for line in serve(**flags).warnings if line.startswith(warning)]


def test_settings_of_the_origin_that_go_together() -> None:
    assert serve(origin="relay", docker_config="c", cache_size="1GiB", stale_private=("r",)).warnings == ()


def test_without_a_cache_there_is_still_a_spool_and_no_directory_store() -> None:
    settings = serve(cache_size="0").settings
    assert isinstance(settings.store, ContainerdStoreSettings)
    assert settings.store.cache_size_bytes == 0
    assert settings.spool_size_bytes == 10 * 2**30
    with pytest.raises(SettingsError, match=r"^--cache-size: '0' leaves the directory store no room"):
        serve(store="directory", cache_size="0")
