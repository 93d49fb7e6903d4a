"""What is read of containerd's configuration and of the kernel's tables, from texts as they are found."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from containerd.effective_config import ConfigInvalid, EffectiveConfig, effective, imports
from containerd.hosts.search import DEFAULT_LIST
from mirror.doctor.facts import Port
from mirror.doctor.look_daemon import look_daemon, look_registry
from mirror.doctor.socket_table import Listening, listening
from mirror.host.look_process import Process, _config_argument, config_of, listener
from mirror.settings.model import Address

V2 = '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/a"\n'
V2_DISCARDS = '[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n'
V3 = '[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/a"\n'
MIRRORS = '[plugins."io.containerd.cri.v1.images".registry.mirrors."x.io"]\nendpoint = ["http://y"]\n'
PLUGIN = '[plugins."io.containerd.grpc.v1.cri"]\n'
CONFIGS = '[plugins."io.containerd.grpc.v1.cri".registry.configs."x.io"]\n'
V3_TOP = '[plugins."io.containerd.cri.v1.images"]\n'


@pytest.mark.parametrize(
    ("texts", "release", "expected"),
    [
        ([""], (1, 7), EffectiveConfig("", False, False, ())),
        ([""], (2, 1), EffectiveConfig("", False, True, ())),
        ([""], (2, 2), EffectiveConfig(DEFAULT_LIST, False, True, ())),
        (['[plugins.cri.registry]\nconfig_path = "/a"'], (1, 6), EffectiveConfig("/a", False, False, ())),
        ([V2], (1, 7), EffectiveConfig("/a", False, False, ())),
        ([V2], (2, 1), EffectiveConfig("/a", False, True, ())),
        ([V3], (2, 1), EffectiveConfig("/a", False, True, ())),
        ([V2 + V2_DISCARDS], (1, 7), EffectiveConfig("/a", True, False, ())),
        ([V3_TOP + "discard_unpacked_layers = true"], (2, 1), EffectiveConfig("", True, False, ())),
        ([V3_TOP + "use_local_image_pull = true"], (2, 1), EffectiveConfig("", False, False, ())),
        ([V3_TOP + "max_concurrent_downloads = 5"], (2, 1), EffectiveConfig("", False, False, ())),
        # Measured on 1.6 and 1.7: the import's table is the plugin's whole table. 2.1 joins them.
        ([V2, V2_DISCARDS], (1, 7), EffectiveConfig("", True, False, ())),
        # In one file of version 2 its own table counts; of two files the second, by whatever name.
        (["version = 2\n" + V2 + V3.replace("/a", "/b")], (2, 1), EffectiveConfig("/a", False, True, ())),
        ([V3, V2.replace('"/a"', '""')], (2, 1), EffectiveConfig("", False, True, ())),
        (['disabled_plugins = ["cri"]', V2], (1, 7), EffectiveConfig("/a", False, False, (), False)),
        ([V2, V2_DISCARDS], (2, 1), EffectiveConfig("/a", True, False, ())),
        (
            [V2 + '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."x.io"]\nendpoint = ["http://y"]'],
            (1, 7),
            EffectiveConfig("/a", False, False, ("x.io",)),
        ),
        (
            [V2 + '[plugins."io.containerd.grpc.v1.cri".registry.configs."x.io".tls]\nca_file = "/c"'],
            (1, 7),
            EffectiveConfig("/a", False, False, ("x.io",)),
        ),
        # As a dump writes it where only credentials are given: allowed beside config_path.
        (
            [V2 + '[plugins."io.containerd.grpc.v1.cri".registry.configs."x.io".tls]\nca_file = ""'],
            (1, 7),
            EffectiveConfig("/a", False, False, ()),
        ),
        # CRI pulls by itself for them.
        ([V3 + MIRRORS], (2, 1), EffectiveConfig("/a", False, False, ("x.io",))),
        # Of another form than containerd takes.
        ([V2, PLUGIN + "registry = 3"], (2, 1), EffectiveConfig("", False, True, ())),
        ([V2 + CONFIGS + 'tls = "x"'], (1, 7), EffectiveConfig("/a", False, False, ())),
        (["plugins = 3"], (1, 7), EffectiveConfig("", False, False, ())),
        ([V2.replace('"/a"', "7")], (1, 7), EffectiveConfig("", False, False, ())),
    ],
)
def test_what_is_in_effect(texts: list[str], release: tuple[int, int], expected: EffectiveConfig) -> None:
    assert effective(texts, release) == expected


@pytest.mark.parametrize("text", ["= 3", "a = " + "[" * 5000])
def test_what_is_not_toml(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        effective([text], (1, 7))


def test_imports_are_named_in_their_order() -> None:
    assert imports('imports = ["/b/*.toml", "a.toml", 3]') == ("/b/*.toml", "a.toml")
    assert imports('imports = "x"') == imports("") == ()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["containerd"], ""),
        (["containerd", "--config", "/x.toml", "-a", "s"], "/x.toml"),
        (["containerd", "--config=/x.toml"], "/x.toml"),
        (["containerd", "-c", "/x.toml"], "/x.toml"),
        (["containerd", "-c"], ""),
    ],
)
def test_the_file_on_a_command_line(arguments: list[str], file: str) -> None:
    assert _config_argument(arguments) == file


def test_files_are_read_where_no_binary_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("mirror.host.look_process.DEFAULT_CONFIG", str(tmp_path / "config.toml"))
    assert config_of(None, (2, 1)) is None
    (tmp_path / "config.toml").write_text('imports = ["d/*.toml"]\n' + V2)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.toml").write_text(V2_DISCARDS)
    found = config_of(None, (2, 1))
    assert found is not None and found.effective == EffectiveConfig("/a", True, False, ())
    (tmp_path / "d" / "1.toml").write_text("= 3")
    found = config_of(None, (2, 1))
    assert found is not None and found.effective is None and found.trouble


def test_who_listens_is_told_by_the_kernel(tmp_path: Path) -> None:
    sock = tmp_path / "s"
    assert listener(sock) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        server.listen()
        assert listener(sock) == Process(os.getpid(), os.geteuid())


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:715C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0
   1: 00000000:715D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 778 1 0 100 0 0 10 0
   2: 0100007F:715C 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 779 1 0 100 0 0 10 0
   3: nonsense
   4: 0100007:715C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 780 1 0 100 0 0 10 0
"""
_ROW = "   0: {}:715C 0:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0\n"


def test_the_table_of_sockets() -> None:
    assert list(listening(TCP)) == [
        Listening("127.0.0.1", 29020, "777"),
        Listening("0.0.0.0", 29021, "778"),
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000000000000000000001000000", "::1"),
        ("00000000000000000000000000000000", "::"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_the_table_of_ipv6_sockets(text: str, address: str) -> None:
    (found,) = listening("head\n" + _ROW.format(text))
    assert found == Listening(address, 29020, "9")


def test_the_kernel_agrees() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = [one.address for one in listening(Path("/proc/net/tcp").read_text()) if one.port == port]
        assert found == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("answer", "port"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", Port.OURS),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Port.TAKEN),
        (b"SSH-2.0-x\r\n", Port.TAKEN),
        (b"", Port.TAKEN),
    ],
)
async def test_who_answers_at_the_registry_port(answer: bytes, port: Port) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        seen = await look_registry(address)
        assert (seen.port, seen.bound) == (port, ("127.0.0.1",))
        assert f"(process {os.getpid()})" in seen.owner
        assert isinstance(await look_daemon(address), str)


async def test_a_program_that_says_nothing_is_waited_for_a_short_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mirror.doctor.look_daemon.ANSWER_LIMIT_S", 0.05)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        seen = await look_registry(Address("127.0.0.1", server.getsockname()[1]))
    assert seen.port is Port.TAKEN and seen.said.endswith("TimeoutError")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_a_daemon_at_every_address_is_asked_where_containerd_asks_it(host: str) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        address = Address(host, server.sockets[0].getsockname()[1])
        assert (await look_registry(address)).port is Port.OURS


async def test_nobody_at_the_registry_port() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        seen = await look_registry(Address("127.0.0.1", reserved.getsockname()[1]))
    assert seen.port is Port.CLOSED and seen.bound == ()
