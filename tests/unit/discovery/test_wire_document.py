"""The examples of docs/wire/discovery.md, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dht.ids import key_of
from mirror.discovery.base import ProviderState
from mirror.discovery.peer_info import PeerInfo, decode, encode, state_number

TEXT = (Path(__file__).resolve().parents[3] / "docs/wire/discovery.md").read_text()


def example(name: str) -> dict[str, str]:
    found = re.search(rf"```example {name}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"the document has no example {name}"
    return dict(line.split(None, 1) for line in found[1].splitlines())


def test_the_key() -> None:
    told = example("key")
    assert key_of(told["string"]).hex() == told["key"]


@pytest.mark.parametrize("name", ["info", "seed"])
def test_the_info(name: str) -> None:
    told = example(name)
    info = PeerInfo(int(told["port"]), told["seed"] == "yes")
    assert encode(info).hex() == told["info"]
    assert decode(bytes.fromhex(told["info"])) == info


def test_the_states() -> None:
    rows = re.findall(r"^\| (\d)[^|]*\| [^|]*(all|part)\b", TEXT, re.MULTILINE)
    assert rows == [("0", "all"), ("1", "part")]
    assert state_number(ProviderState.COMPLETE) == 0
    assert state_number(ProviderState.PARTIAL) == 1
