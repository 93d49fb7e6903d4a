"""What the settings of cleanup and cleanup-wait amount to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import SettingsError
from mirror.settings import resolve
from mirror.settings.load import read
from mirror.settings.model import Address, CleanupSettings, CleanupWaitSettings
from mirror.settings.resolve import Surroundings
from mirror.settings.setting import Command

AROUND = Surroundings(working_dir=Path("/"), has_ipv6=True, is_terminal=False)


def test_cleanup() -> None:
    values = read(Command.CLEANUP, {"hosts_dir": "/h"}, {})
    assert resolve.cleanup(values, AROUND).settings == CleanupSettings(Path("/h"), None, None)


def test_cleanup_of_a_host_in_a_cluster() -> None:
    flags = {"hosts_dir": "/h", "remove_data_dir": "/d", "stay_addr": ":29021"}
    settings = resolve.cleanup(read(Command.CLEANUP, flags, {}), AROUND).settings
    assert settings == CleanupSettings(Path("/h"), Path("/d"), Address("::", 29021))


def test_a_host_that_serves_does_not_lose_its_data_to_cleanup() -> None:
    values = read(Command.CLEANUP, {}, {"PEILI_DATA_DIR": "/var/lib/peili"})
    assert resolve.cleanup(values, AROUND).settings.remove_data_dir is None


@pytest.mark.parametrize("text", ["peili-cleanup", ":29021", "a b:1", "x:0", "10.0.0.300:1", "[::1]"])
def test_who_is_waited_for_has_a_name_and_a_port(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--wait-for: "):
        read(Command.CLEANUP_WAIT, {"wait_for": text}, {})


@pytest.mark.parametrize("text", ["59", "86401", "-1", "4m", "1e3", "\u0662\u0660\u0660", "9" * 30])
def test_a_time_is_whole_seconds(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--give-up-after: .* whole seconds, 60 to 86400"):
        read(Command.CLEANUP_WAIT, {"give_up_after": text}, {})


def test_what_is_waited_for() -> None:
    settings = resolve.cleanup_wait(read(Command.CLEANUP_WAIT, {"wait_for": "[fd00::7]:1"}, {})).settings
    assert settings == CleanupWaitSettings(Address("fd00::7", 1), 240)
