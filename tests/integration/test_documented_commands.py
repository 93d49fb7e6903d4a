"""Every command of the documentation has a row in tests/support/command_table.py, and what is to be run here is run:
letter by letter as it is written, on hosts with the paths, ports and addresses of real ones.

A command that is new in a page, or no longer in any, fails. The pages of docs/adr are history and are not looked at.
"""

from __future__ import annotations

import ast
import base64
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml

from mirror.version import VERSION
from tests.support.built_images import BuiltImages
from tests.support.command_hosts import CommandHost, linked, shell
from tests.support.command_table import (
    CLEAN_AGAIN,
    CLEANUP,
    CONFIGURE,
    CREATE_SECRET,
    DOCTOR,
    DOWN,
    DUMP,
    IMAGES,
    IMPORT,
    LINE,
    NOT_COMMANDS,
    PATCH,
    PEERS,
    PEILI_STATUS,
    REMOVE,
    SECRET,
    SERVE,
    STALE_TAGS,
    STATUS,
    TABLE,
    UP,
    UP_CLOSED,
    WHOLE_DUMP,
    Elsewhere,
    Here,
    NotRun,
)
from tests.support.doc_commands import commands, parts
from tests.support.helm_chart import objects, one
from tests.support.helm_tools import helm
from tests.support.missing import NO_TOOLS, Missing
from tests.support.skips import netns_or_missing, require, tool_bin

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "helm/peili/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "wire").glob("*.md")),
    *sorted((ROOT / "docs" / "clients").glob("*.md")),
]


# --- The table is what the pages say


def test_every_command_of_every_page_is_in_the_table() -> None:
    said: dict[str, str] = {}
    for page in PAGES:
        for command in commands(page.read_text(), NOT_COMMANDS):
            said.setdefault(command.text, f"{page.relative_to(ROOT)}:{command.line_number}")
    new = {text: where for text, where in said.items() if text not in TABLE}
    assert not new, "say in TABLE who runs these commands, or why nobody does"
    assert set(TABLE) <= set(said), "these commands are in no page any more: take them out of TABLE"


def test_every_block_without_commands_is_there() -> None:
    first_lines = {
        part.lines[0]
        for page in PAGES
        for part in parts(page.read_text())
        if part.kind == "block" and part.lines
    }
    assert first_lines >= NOT_COMMANDS


def test_every_test_that_is_named_is_there() -> None:
    for row in TABLE.values():
        if isinstance(row, NotRun):
            continue
        path, _, name = row.test.partition("::") if isinstance(row, Elsewhere) else (__file__, "", row.test)
        tree = ast.parse((ROOT / path).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in names, row.test


class Ran:
    """What a test says that it has run; at its end that must be all that the table says of it."""

    def __init__(self, test: str) -> None:
        self.missing = {text for text, row in TABLE.items() if row == Here(test)}
        self._all = frozenset(self.missing)

    def __call__(self, text: str) -> str:
        assert text in self._all, f"the table does not say that this test runs {text!r}"
        self.missing.discard(text)
        return text


@pytest.fixture
def ran(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    ran = Ran(request.node.originalname)
    yield ran
    assert not ran.missing, "the table says that this test runs these commands"


# --- What is run here


@pytest_asyncio.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[tuple[CommandHost, CommandHost]]:
    """The first has the address that docs/plain-host.md names. containerd 2.1 and 1.7."""
    require(netns_or_missing())
    if shutil.which("curl") is None:
        require(Missing(NO_TOOLS, "curl is not installed.", "install curl."))
    async with linked(tmp_path, ("10.0.0.11", "10.0.0.12")) as (first, second):
        for host, version in ((first, "2.1"), (second, "1.7")):
            await host.start_containerd(tool_bin(f"containerd-{version}"), config_of_the_page(version))
        yield first, second


def config_of_the_page(version: str) -> str:
    """What docs/plain-host.md says of containerd's configuration, for that one of its versions."""
    text = (ROOT / "docs" / "plain-host.md").read_text()
    assert "`version = 2` (containerd 1.x" in text and "on 2.x `version = 3`" in text
    ((first, one, second, two),) = [
        part.lines for part in parts(text) if part.kind == "block" and part.lines[0].startswith("[plugins.")
    ]
    assert "# containerd 1.x" in first and "# containerd 2.x" in second
    lines = ("version = 2", first, one) if version.startswith("1.") else ("version = 3", second, two)
    return "\n".join([*lines, ""])


@pytest.mark.netns
@pytest.mark.containerd
@pytest.mark.slow
async def test_two_hosts_are_set_up_looked_at_and_left_as_they_were(
    hosts: tuple[CommandHost, CommandHost], ran: Callable[[str], str]
) -> None:
    first, second = hosts
    was = [host.files("/etc/containerd") for host in hosts]
    for host in hosts:
        # One table and its one line, not those of other plugins.
        table, setting = host.run(ran(DUMP)).splitlines()
        assert table.strip().startswith("[plugins.")
        assert setting.split() in (
            ["config_path", "=", f"{quote}/etc/containerd/certs.d{quote}"] for quote in "'\""
        )
        assert "config_path" in host.run(ran(WHOLE_DUMP))

    first.run(ran(SECRET))
    assert len(base64.b64decode((first.folder / "SECRET").read_text(), validate=False)) == 32
    shutil.copy(first.folder / "SECRET", second.folder / "SECRET")
    for host in hosts:
        assert "/etc/containerd/certs.d/docker.io/hosts.toml" in host.run(ran(CONFIGURE))
    assert "/etc/containerd/certs.d/docker.io/hosts.toml" in second.run(ran(STALE_TAGS))

    daemons = [host.process(ran(SERVE), "serve") for host in hosts]
    async with daemons[0], daemons[1]:
        for daemon in daemons:
            await daemon.said("serving containerd")
            await daemon.said("found a first host of the cluster")
        for host in hosts:
            told = json.loads(host.run(ran(STATUS)))
            # What docs/kubernetes.md says of it.
            assert (told["members"], told["trouble"], told["bytes_from_peers"]) == (1, None, 0)
            assert "1 known" in host.run(ran(PEILI_STATUS))
            assert ":29021" in host.run(ran(PEERS))
            assert "has no image" in host.run(ran(IMAGES))
            assert host.run(ran(DOCTOR))

    assert "node.json" in first.files("/var/lib/peili")
    assert "/etc/containerd/certs.d/docker.io/hosts.toml" in first.run(ran(CLEANUP))
    second.run(ran(REMOVE))
    assert [host.files("/etc/containerd") for host in hosts] == was
    assert second.files("/var/lib/peili") == {}


@pytest.mark.netns
@pytest.mark.containerd
@pytest.mark.slow
async def test_the_path_of_a_new_user(
    hosts: tuple[CommandHost, CommandHost], ran: Callable[[str], str]
) -> None:
    was = [host.files("/etc/containerd") for host in hosts]
    # The second time with a secret, which the second host does not have.
    for command, known in ((UP, 1), (UP_CLOSED, 0)):
        running = [host.process(ran(text), "up") for host, text in zip(hosts, (command, UP), strict=True)]
        async with running[0], running[1]:
            for up in running:
                await up.said("peili up --join peili-")
                await up.said("serving containerd")
            first = hosts[0]
            if known:
                await running[0].said("found a first host of the cluster")
                first.run(DOCTOR)
            assert f"{known} known" in first.run(PEILI_STATUS)
            for host in hosts:
                assert "/var/lib/peili" in host.run(ran(DOWN))
        assert [host.files("/etc/containerd") for host in hosts] == was
        assert [host.files("/var/lib/peili") for host in hosts] == [{}, {}]


@pytest.mark.netns
@pytest.mark.containerd
@pytest.mark.slow
async def test_the_image_is_imported_under_the_name_that_is_said(
    tmp_path: Path, images: BuiltImages, ran: Callable[[str], str]
) -> None:
    assert "it is localhost/peili:VERSION" in (ROOT / "docs" / "image.md").read_text()
    async with CommandHost(tmp_path) as host:
        await host.start_containerd(tool_bin("containerd-2.1"), config_of_the_page("2.1"))
        (host.folder / "build").mkdir()
        (host.folder / "build" / "image.tar").symlink_to(images.current.tar)
        host.run(ran(IMPORT))
        assert f"localhost/peili:{VERSION}" in host.run("ctr -n k8s.io image ls -q").split()


def test_what_needs_no_host(tmp_path: Path, ran: Callable[[str], str]) -> None:
    assert len(base64.b64decode(shell(ran(LINE), tmp_path).stdout)) == 32
    assert f"peili {VERSION}\n" in shell(ran("peili version"), tmp_path).stdout
    for name in ("seed", "scheduler"):
        # helm/peili/README.md: "ends with an error in this one".
        done = shell(ran(f"peili {name}"), tmp_path)
        assert done.returncode == 2 and name in done.stderr


# --- What a cluster is told


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder with a `kubectl` that notes its arguments and what comes in, and does nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "kubectl"
    script.write_text(
        "#!/bin/sh\nprintf '%s\\0' \"$@\" > arguments\ncase \"$*\" in *'-f -'*) cat > input;; esac\n"
    )
    script.chmod(0o755)
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    return folder


def told(folder: Path) -> list[str]:
    return (folder / "arguments").read_text().split("\0")[:-1]


@pytest.mark.parametrize("major", [3, 4])
def test_what_kubectl_is_told(tmp_path: Path, recorder: Path, major: int, ran: Callable[[str], str]) -> None:
    binaries = require(helm(major)).parent

    def run(text: str) -> list[str]:
        done = shell(ran(text), tmp_path, recorder, binaries)
        assert (done.returncode, done.stderr) == (0, "")
        return told(tmp_path)

    key = one(objects((ROOT / "tests/chart/golden/default.yaml").read_text()), "Secret")["data"].keys()
    lines = f"{base64.b64encode(bytes(32)).decode()}\n{base64.b64encode(bytes(range(32))).decode()}\n"
    (tmp_path / "LINES").write_text(lines)
    *words, flag, patch = run(PATCH)
    assert (words, flag) == (["-n", "peili-system", "patch", "secret", "peili-cluster"], "--patch")
    data = json.loads(patch)["data"]
    assert {name: base64.b64decode(text).decode() for name, text in data.items()} == dict.fromkeys(key, lines)
    literal = run(CREATE_SECRET)[-1]
    name, _, text = literal.removeprefix("--from-literal=").partition("=")
    assert {name} == key and len(base64.b64decode(text)) == 32

    (tmp_path / "YOUR-VALUES").write_text("peili: {cluster: mine}\n")
    run(CLEAN_AGAIN)
    made = {
        f"{it['kind']}/{it['metadata']['name']}"
        for it in yaml.safe_load_all((tmp_path / "input").read_text())
        if it
    }
    assert made == {"Service/peili-cleanup", "DaemonSet/peili-cleanup", "Pod/peili-cleanup-wait"}
