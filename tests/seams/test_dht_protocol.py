"""What the kademlia package would leave open is closed: nothing of it is reached from the network, nor by mistake."""

from __future__ import annotations

import ast
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from kademlia.protocol import KademliaProtocol

from dht.endpoints import Endpoint
from dht.protocol import ProviderProtocol
from dht.server import ProviderServer, Unsupported
from dht.wire.codec import NAMES, Ping, Pong
from dht.wire.envelope import Key
from tests.support.dht_attackers import member, stranger
from tests.support.dht_nodes import KEY, Live, live, live_cluster, quiet

ROOT = Path(__file__).resolve().parents[2]
KEYS = pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
ID = b"i" * 20


packed = msgspec.msgpack.encode


def remote_names() -> list[str]:
    """All that the package would call, and all that reflection could reach."""
    found = (
        set(dir(ProviderProtocol))
        | set(dir(KademliaProtocol))
        | {"transport", "router", "storage", "__init__"}
    )
    found |= {name.removeprefix("rpc_") for name in found}
    return sorted(found - set(NAMES.values()))


@KEYS
async def test_no_name_of_the_package_is_an_rpc(
    keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture
) -> None:
    names = remote_names()
    assert {"store", "find_value", "stun", "__init__", "welcome_if_new", "call_store", "_send"} <= set(names)
    with quiet(caplog):
        async with live(keys=keys) as node, member(keys=keys) as asker:
            assert isinstance(await asker.ask(Ping(), node), Pong)
            before, answered = dict(vars(node.protocol)), len(node.wire.went)
            datagrams = [
                asker.seal(b"\x00" + os.urandom(20) + packed([name, arguments]), node)
                for name in names
                for arguments in ([ID, b"k" * 20, "a value"], [ID], [])
            ]
            await asker.socket.pour(datagrams, node)
            received = node.dht.stats.rpcs_received
            # A name is at most 24 bytes long.
            known_count = sum(len(name) <= 24 for name in names)
            assert received["unknown", "ignored"] == 3 * known_count
            assert node.drops.get("bad request", 0) == 3 * (len(names) - known_count)
            assert len(node.wire.went) == answered
            assert vars(node.protocol) == before
            assert isinstance(await asker.ask(Ping(), node), Pong)


@KEYS
async def test_the_packages_own_datagrams_are_nothing_to_us(
    keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture
) -> None:
    requests = [
        b"\x00" + os.urandom(20) + packed([name, arguments])
        for name, arguments in (
            ("ping", [ID]),
            ("stun", []),
            ("store", [ID, b"k" * 20, "value"]),
            ("find_node", [ID, b"k" * 20]),
            ("find_value", [ID, b"k" * 20]),
        )
    ]
    answers = [b"\x01" + os.urandom(20) + packed([[ID, "127.0.0.1", 1]])]
    with quiet(caplog):
        async with live(keys=keys) as node, stranger() as other:
            await other.pour(requests + answers, node)
            assert sum(node.drops.values()) == len(requests) + len(answers)
            assert node.wire.went == []
            assert node.members == {}


@pytest.fixture
async def node() -> AsyncIterator[Live]:
    async with live_cluster(2) as nodes:
        yield nodes[0]


async def test_a_misspelt_attribute_is_no_remote_call(node: Live) -> None:
    """The package makes one of whatever is missing."""
    sent = len(node.wire.went)
    for name in ("pnig", "store", "find_value", "stun", "rpc_get_providers", "get_providers"):
        with pytest.raises(AttributeError, match=name):
            getattr(node.protocol, name)
    peer = node.protocol.router.find_neighbors(node.protocol.source_node)[0]
    with pytest.raises(AttributeError):
        await node.protocol.call_ping(peer)
    with pytest.raises(AttributeError):
        await node.protocol.call_store(peer, ID, "value")
    assert len(node.wire.went) == sent
    assert node.protocol._outstanding == {}


async def test_the_server_has_no_values_and_no_pickles(node: Live, tmp_path: Path) -> None:
    server, state = node.dht._server, tmp_path / "state"
    refused = [
        server.get("key"),
        server.set("key", "value"),
        server.set_digest(ID, "value"),
        server.bootstrap([("127.0.0.1", 1)]),
        server.listen(0),
        ProviderServer.load_state(str(state), 0),
    ]
    for call in refused:
        with pytest.raises(Unsupported):
            await call
    for save in (server.save_state, server.save_state_regularly):
        with pytest.raises(Unsupported):
            save(str(state))
    assert not state.exists()
    server.refresh_table()
    assert server.refresh_loop is None
    assert list(server.storage) == []
    with pytest.raises(Unsupported):
        server.storage[ID] = "value"


def test_our_modules_load_nothing_that_runs_code_from_data() -> None:
    forbidden = {"pickle", "marshal", "shelve", "umsgpack", "subprocess", "importlib"}
    calls = {"eval", "exec", "__import__", "getattr", "setattr", "compile"}
    found = []
    for path in sorted((ROOT / "dht").rglob("*.py")):
        for part in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(part, ast.Import):
                names = [alias.name for alias in part.names]
            elif isinstance(part, ast.ImportFrom):
                names = [part.module or ""]
            elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in calls:
                named = part.args[1] if part.func.id == "getattr" else None
                if not isinstance(named, ast.Constant):
                    found.append(f"{path.name}:{part.lineno}: {part.func.id}")
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in forbidden]
    assert found == []


async def test_what_cannot_be_sent_or_is_empty_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live() as node, stranger() as source:
            # Nobody may send there without asking the kernel for it.
            node.protocol.tell(ID, Endpoint("255.255.255.255", 9), Ping())
            node.protocol.tell(ID, Endpoint("::1", 9), Ping())
            await source.pour([b""], node)
            assert node.drops == {"icmp": 1, "no_socket": 1, "short": 1}
