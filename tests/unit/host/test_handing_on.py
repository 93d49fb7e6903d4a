"""What a service is given is what up was given and found."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.cli.after_up import with_what_up_found
from mirror.host.handing_on import flags_of, words
from mirror.host.ledger import Ledger, save
from mirror.settings import machine
from mirror.settings.load import given, read
from mirror.settings.setting import Command
from mirror.settings.table import settings_of

HERE = Path("/home/me")


def test_given_wins_over_found_and_paths_are_absolute() -> None:
    told = given(
        Command.UP, {"hosts_dir": "certs", "mirror": ("a.io", "b.io"), "tags": None}, {"PEILI_DATA_DIR": "d"}
    )
    found = {"hosts_dir": ("/etc/x",), "containerd_namespace": ("moby",), "bootstrap": ("lan",)}
    flags = flags_of(Command.SERVE, told, found, HERE)
    assert flags == {
        "containerd_namespace": ("moby",),
        "data_dir": "/home/me/d",
        "bootstrap": ("lan",),
        "mirror": ("a.io", "b.io"),
        "hosts_dir": "/home/me/certs",
    }
    assert words(flags) == (
        "--containerd-namespace=moby",
        "--data-dir=/home/me/d",
        "--bootstrap=lan",
        "--mirror=a.io",
        "--mirror=b.io",
        "--hosts-dir=/home/me/certs",
    )


def test_every_setting_of_serve_and_configure_arrives_as_it_was_given() -> None:
    """By variables here, as flags there."""
    variables = {setting.variable: setting.example for setting in settings_of(Command.UP)}
    told = given(Command.UP, {}, variables)
    for command in (Command.SERVE, Command.CONFIGURE):
        direct = read(command, {}, variables)
        handed = read(command, flags_of(command, told, {}, Path("/")), {})
        assert {name: values for name, values in handed.parsed.items() if name != "filter"} == {
            name: values for name, values in direct.parsed.items() if name != "filter"
        }


def test_commands_speak_with_the_daemon_that_up_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DEFAULT_DATA_DIR", tmp_path)
    flags = {"hosts_dir": None, "admin_addr": None, "mirror": (), "containerd_sock": None}
    assert with_what_up_found(Command.DOCTOR, flags) == flags
    kept = {
        "hosts_dir": ("/h",),
        "admin_addr": ("127.0.0.1:1",),
        "mirror": ("a.io", "b.io"),
        "origin": ("off",),
    }
    save(tmp_path, Ledger(flags=kept))
    told = with_what_up_found(Command.DOCTOR, flags)
    assert told == {**flags, "hosts_dir": "/h", "admin_addr": "127.0.0.1:1", "mirror": ("a.io", "b.io")}
    monkeypatch.setenv("PEILI_ADMIN_ADDR", "127.0.0.1:2")
    told = with_what_up_found(Command.DOCTOR, {**flags, "hosts_dir": "/mine"})
    assert told == {**flags, "hosts_dir": "/mine", "mirror": ("a.io", "b.io")}
    assert with_what_up_found(Command.STATUS, {"admin_addr": None}) == {"admin_addr": None}
    (tmp_path / "host.json").write_bytes(b"{")
    assert with_what_up_found(Command.DOCTOR, flags) == flags
