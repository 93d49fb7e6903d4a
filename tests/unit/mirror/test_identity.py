"""`node.json`: the same node after each start, one epoch later, and nothing half-written."""

from __future__ import annotations

import json
import resource
import stat
from pathlib import Path

import pytest

from dht.contacts import EPOCH_MAX
from dht.ids import NodeId
from mirror.identity import Identity, IdentityDamaged, IdentityUnwritable, IdentityUsedUp, begin

NODE = NodeId(bytes(range(20)))


def fixed(count: int) -> bytes:
    return bytes(range(count))


def test_the_first_start_makes_an_id_and_epoch_1(tmp_path: Path) -> None:
    assert begin(tmp_path, fixed) == Identity(NODE, 1)


def test_ids_are_random(tmp_path: Path) -> None:
    assert begin(tmp_path / "one").node != begin(tmp_path / "two").node


def test_each_start_keeps_the_id_and_counts(tmp_path: Path) -> None:
    first = begin(tmp_path)
    later = [begin(tmp_path) for _ in range(3)]
    assert later == [Identity(first.node, epoch) for epoch in (2, 3, 4)]


def test_what_is_on_disk(tmp_path: Path) -> None:
    data_dir = tmp_path / "deep" / "data"
    begin(data_dir, fixed)
    path = data_dir / "node.json"
    assert json.loads(path.read_bytes()) == {"id": str(NODE), "epoch": 1}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in data_dir.iterdir()] == ["node.json"]


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    begin(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_fields_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text(json.dumps({"id": str(NODE), "epoch": 7, "zone": "a"}))
    assert begin(tmp_path) == Identity(NODE, 8)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({"id": str(NODE)}),
        json.dumps({"id": str(NODE)[:-1], "epoch": 1}),
        json.dumps({"id": "g" * 40, "epoch": 1}),
        json.dumps({"id": str(NODE), "epoch": "1"}),
        json.dumps({"id": str(NODE), "epoch": 1.5}),
        json.dumps({"id": str(NODE), "epoch": 0}),
        json.dumps({"id": str(NODE), "epoch": -1}),
        json.dumps({"id": str(NODE), "epoch": 1}) + " " * 5000,
        '{"zone": ' + "[" * 4000,
        "\x00" * 80,
        "\udcff",
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.json"
    raw = content.encode(errors="surrogateescape")
    path.write_bytes(raw)
    with pytest.raises(IdentityDamaged, match=r"node\.json is damaged: .+; restore it, or delete it"):
        begin(tmp_path)
    assert path.read_bytes() == raw
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.json"]


def test_the_last_epoch_of_the_wire_is_used_and_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps({"id": str(NODE), "epoch": EPOCH_MAX - 1}))
    assert begin(tmp_path) == Identity(NODE, EPOCH_MAX)
    for epoch in (EPOCH_MAX, EPOCH_MAX + 1, 2**53, 10**3000):
        path.write_text(json.dumps({"id": str(NODE), "epoch": epoch}))
        with pytest.raises(
            IdentityUsedUp, match=rf"node\.json has counted {EPOCH_MAX} starts or more, .*; delete it"
        ):
            begin(tmp_path)
        assert json.loads(path.read_bytes())["epoch"] == epoch


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(IdentityUnwritable, match=r"file/node\.json cannot be read and written.*--data-dir"):
        begin(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    begin(tmp_path, fixed)
    content = (tmp_path / "node.json").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The disk is full after ten bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(IdentityUnwritable, match="File too large; free the disk"):
            begin(tmp_path, fixed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.json"]
    assert (tmp_path / "node.json").read_bytes() == content
