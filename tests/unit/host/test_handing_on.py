"""What a service is given is what up was given and found."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.cli.after_up import with_what_up_found
from mirror.host.handed import Handed, found_texts, handed_on
from mirror.host.handing_on import flags_of, words
from mirror.host.ledger import Entry, Ledger, save
from mirror.host.membership import Membership
from mirror.host.plan import HostPlan, HostsDir, ServeSettings
from mirror.settings import machine
from mirror.settings.load import given, read
from mirror.settings.setting import Command
from mirror.settings.table import settings_of

HERE = Path("/home/me")
DATA_DIR = Path("/var/lib/peili")
MEMBER = Membership("home", ("lan", "static:10.0.0.1:1"), ("10.0.0.1:1",), keeps_secret=True)
PLAN = HostPlan(
    ServeSettings("/run/c.sock", ("k8s.io", "moby"), "/a", "/a:/b"),
    (HostsDir("/a", "/a:/b"), HostsDir("/docker", "/docker")),
    restart="systemctl restart containerd",
)


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


def test_what_was_found_is_handed_on_and_kept() -> None:
    handed = handed_on({"mirror": ("a.io",), "docker_config": ("auth",)}, PLAN, MEMBER, DATA_DIR, HERE)
    assert handed.flags(Command.SERVE) == {
        "containerd_sock": "/run/c.sock",
        "containerd_namespace": ("k8s.io", "moby"),
        "data_dir": "/var/lib/peili",
        "bootstrap": ("lan", "static:10.0.0.1:1"),
        "cluster": "home",
        "cluster_secret_file": "/var/lib/peili/secret",
        "docker_config": "/home/me/auth",
        "mirror": ("a.io",),
        "hosts_dir": "/a",
        "containerd_config_path": "/a:/b",
    }
    kept = handed.kept(Ledger(), PLAN, MEMBER)
    assert kept.flags["cluster_secret_file"] == ("/var/lib/peili/secret",)
    assert kept.flags["mirror"] == ("a.io",) and kept.flags["docker_config"] == ("/home/me/auth",)


def test_an_open_cluster_of_the_lan_has_neither_name_nor_secret() -> None:
    found = found_texts(PLAN, Membership(None, ("lan",), (), keeps_secret=False), DATA_DIR)
    assert found.keys().isdisjoint({"cluster", "cluster_secret_file"})


def test_configure_runs_for_each_directory() -> None:
    """Also where the operator names one: the plan says where it counts."""
    given = {"mirror": ("a.io",), "hosts_dir": ("/a",)}
    handed = handed_on(given, PLAN, MEMBER, DATA_DIR, HERE)
    told = [
        (flags["hosts_dir"], flags["containerd_config_path"], flags["mirror"], flags["containerd_sock"])
        for flags in handed.flags_of_configure(PLAN)
    ]
    assert told == [
        ("/a", "/a:/b", ("a.io",), "/run/c.sock"),
        ("/docker", "/docker", ("a.io",), "/run/c.sock"),
    ]


def test_what_an_earlier_up_did_is_kept() -> None:
    entry = Entry("/etc/x", "0", None)
    known = Ledger(
        hosts_dirs=("/old", "/a"), service="peili.service", restart="old", cluster="old", files=(entry,)
    )
    plan = HostPlan(PLAN.serve, PLAN.hosts_dirs)
    kept = Handed({}, {}, HERE).kept(known, plan, MEMBER)
    assert kept == Ledger(
        hosts_dirs=("/old", "/a", "/docker"),
        service="peili.service",
        restart="old",
        cluster="home",
        peers=MEMBER.peers,
        files=(entry,),
    )
    assert Handed({}, {}, HERE).kept(known, PLAN, MEMBER).restart == PLAN.restart


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
