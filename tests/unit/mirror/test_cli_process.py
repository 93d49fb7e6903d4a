"""The real command in a process of its own: signals, exit codes, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fake_containerd import FakeContainerd

REPOSITORY = Path(__file__).parents[3]
# A start takes half a second; the machine may be busy.
PATIENCE_S = 30.0
ANY_PORT = "127.0.0.1:0"
LISTENERS = ["--registry-addr", ANY_PORT, "--peer-addr", ANY_PORT, "--admin-addr", ANY_PORT]
NOBODY = 65534


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """pytest's own are private to its user."""
    with tempfile.TemporaryDirectory(prefix="test-peili-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PEILI_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **more}


@asynccontextmanager
async def started(*command: str, **more: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, env=environment(**more)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(*arguments: str, **more: str) -> tuple[int, str, str]:
    async with started(sys.executable, "-m", "mirror", *arguments, **more) as process:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def until_it_serves(process: Process) -> list[dict[str, object]]:
    """The log's lines up to the one that says so."""
    assert process.stderr is not None
    lines: list[dict[str, object]] = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            raw = await process.stderr.readline()
            assert raw, f"it ended: {lines}"
            lines.append(json.loads(raw))
            if lines[-1]["msg"] == "serving containerd":
                return lines


async def the_rest(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    arguments = [
        "serve",
        "--data-dir",
        str(tmp_path / "data"),
        "--store-dir",
        str(tmp_path / "store"),
        *LISTENERS,
    ]
    async with started(sys.executable, "-m", "mirror", *arguments, PEILI_MIRRORS="x") as process:
        lines = await until_it_serves(process)
        process.send_signal(number)
        code, err = await the_rest(process)
    assert code == 0 and "Traceback" not in err
    assert lines[0]["level"] == "warning" and str(lines[0]["msg"]).startswith("PEILI_MIRRORS is no setting")
    settings = lines[1]
    assert (settings["msg"], settings["level"]) == ("settings", "info")
    assert (settings["store"], settings["store_dir"]) == ("directory", str(tmp_path / "store"))
    assert settings["data_dir"] == str(tmp_path / "data") and settings["registry_addr"] == ANY_PORT
    assert (tmp_path / "data" / "node.json").exists()


@pytest.mark.slow
async def test_a_user_without_a_data_directory_gets_a_temporary_one(public_dir: Path) -> None:
    temporary = public_dir
    # Root becomes nobody after everything is loaded: the checkout, and Python itself, may be private to root.
    code = f"""
import concurrent.futures.thread, encodings.idna, os, sys
import mirror.cli.serve, mirror.daemon
from mirror.cli.main import main
if os.geteuid() == 0:
    os.setgid({NOBODY}); os.setuid({NOBODY})
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["serve", "--store", "directory", *LISTENERS]
    async with started(sys.executable, "-c", code, *arguments, TMPDIR=str(temporary)) as process:
        lines = await until_it_serves(process)
        (left,) = temporary.iterdir()
        assert left.name.startswith("peili-") and (left / "node.json").exists()
        process.terminate()
        exit_code, err = await the_rest(process)
    assert exit_code == 0, err
    assert list(temporary.iterdir()) == []
    said = [str(line["msg"]) for line in lines]
    assert any(message.startswith("the data directory is temporary") for message in said)
    (settings,) = [line for line in lines if line["msg"] == "settings"]
    assert str(settings["data_dir"]).endswith(left.name)


@pytest.mark.slow
async def test_an_address_that_is_taken_is_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = [
            "--store-dir",
            str(tmp_path / "s"),
            "--data-dir",
            str(tmp_path / "d"),
            "--log-level",
            "error",
        ]
        code, out, err = await run("serve", *flags, *LISTENERS, "--registry-addr", address)
    assert (code, out) == (1, "")
    assert err.startswith(f"peili: --registry-addr {address} cannot be bound: ") and err.count("\n") == 1


@pytest.mark.slow
async def test_a_store_that_a_task_cannot_use_is_one_line(tmp_path: Path) -> None:
    """It fails in a task group: the group is not what the operator reads."""
    store = tmp_path / "s"
    store.mkdir()
    (store / "oci-layout").write_text('{"imageLayoutVersion": "9.0.0"}')
    flags = ["--store-dir", str(store), "--data-dir", str(tmp_path / "d"), "--log-level", "error"]
    code, out, err = await run("serve", *flags, *LISTENERS)
    assert (code, out) == (1, "")
    assert err.startswith(f"peili: {store}/oci-layout says version '9.0.0'") and err.count("\n") == 1


@pytest.mark.slow
async def test_damaged_files_are_exit_codes_1_and_2(tmp_path: Path) -> None:
    flags = ["--store-dir", str(tmp_path / "s"), "--data-dir", str(tmp_path), "--log-level", "error"]
    secret = tmp_path / "secret"
    secret.write_text("AAAA")
    code, _, err = await run("serve", *flags, *LISTENERS, "--cluster-secret-file", str(secret))
    assert code == 2 and err.startswith(f"peili: --cluster-secret-file: line 1 of {secret} holds 3 bytes")
    assert err.count("\n") == 1
    (tmp_path / "node.json").write_text("{")
    code, _, err = await run("serve", *flags, *LISTENERS)
    assert code == 1 and err.startswith(f"peili: {tmp_path}/node.json is damaged: ") and err.count("\n") == 1


@pytest.mark.slow
async def test_configure_asks_containerd_for_its_version(tmp_path: Path) -> None:
    hosts_dir = tmp_path / "etc" / "containerd" / "certs.d"
    hosts_dir.mkdir(parents=True)
    (tmp_path / "etc" / "docker").mkdir()
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "c.sock")]
    literal = Path(f"{hosts_dir}:/etc/docker/certs.d")
    containerd = FakeContainerd(tmp_path, version="2.1.9")
    async with containerd:
        code, _, err = await run("configure", *flags)
    assert (code, err, literal.exists()) == (0, "", False)
    # From 2.2 on the default of config_path is a list that containerd takes for one path.
    containerd.state.version_text = "2.2.0"
    async with containerd:
        code, _, err = await run("configure", *flags)
    assert (code, err) == (0, "")
    assert (literal / "_default" / "hosts.toml").exists()


@pytest.mark.slow
async def test_a_containerd_that_names_no_release_is_taken_for_a_new_one(tmp_path: Path) -> None:
    """Before 1.7 the origin of such a name is spoken to without TLS."""
    hosts_dir = tmp_path / "certs.d"
    flags = ["--hosts-dir", str(hosts_dir), "--containerd-sock", str(tmp_path / "c.sock")]
    containerd = FakeContainerd(tmp_path, version="0.0.0+unknown")
    async with containerd:
        code, _, err = await run("configure", *flags, "--mirror", "127.0.0.1:443")
    assert (code, err) == (0, "")
    assert '"https://127.0.0.1:443"' in (hosts_dir / "127.0.0.1:443" / "hosts.toml").read_text()


@pytest.mark.slow
async def test_a_wrong_command_line_loads_no_daemon() -> None:
    script = """
import sys
from mirror.cli.main import main
code = main(["serve", "--admin-addr", "nowhere"])
print(code, [name for name in ("aiohttp", "grpc", "rich", "mirror.daemon") if name in sys.modules])
"""
    async with started(sys.executable, "-c", script) as process:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
    assert out == b"2 []\n"
