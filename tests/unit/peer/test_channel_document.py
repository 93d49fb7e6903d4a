"""docs/wire/state-channel.md against the code: its examples are run, its tables compared."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct, inspect
from msgspec.structs import fields

from mirror.oci.digest import Digest
from mirror.peer import frames, wire
from mirror.peer.channel_params import ChannelParams
from mirror.peer.frames import DeclineReason, FrameInvalid, LeaveReason
from mirror.peer.news import ChannelEnd
from mirror.swarm.pieces import PieceLayout

TEXT = (Path(__file__).resolve().parents[3] / "docs/wire/state-channel.md").read_text()
PARAMS = ChannelParams()
EXAMPLES = re.findall(r"```example (\S+)\nframes  (.*)\nmessage (.*)\n```", TEXT)


def name_of(kind: type[Struct]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


def value_of(text: str) -> list[list[object]]:
    text = re.sub(r"h'([0-9a-f]*)'", lambda found: repr(bytes.fromhex(found[1])), text)
    value = ast.literal_eval(text.replace("true", "True").replace("false", "False"))
    assert isinstance(value, list)
    return value


def test_every_frame_has_an_example() -> None:
    shown = {frame[0] for _, text, _ in EXAMPLES for frame in value_of(text)}
    assert shown == set(frames.NAMES)
    assert TEXT.count("```example") == len(EXAMPLES)


@pytest.mark.parametrize(("name", "text", "message"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_an_example(name: str, text: str, message: str) -> None:
    data = bytes.fromhex(message)
    value = value_of(text)
    assert data == bytes((1,)) + msgspec.msgpack.encode(value)
    if name == "hello":
        newest, hello = frames.decode_hello(data)
        assert newest == 1
        assert frames.encode_hello(hello) == data
        return
    found, count = frames.decode_message(data, 1)
    assert count == len(found) == len(value)
    assert frames.join(1, [frames.encode_frame(frame) for frame in found]) == data


@pytest.mark.parametrize(("name", "text", "message"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_a_later_release_may_add_and_no_more(name: str, text: str, message: str) -> None:
    """Every example, longer by one element, still reads; shorter, it does not."""
    value = value_of(text)
    longer = b"\x01" + msgspec.msgpack.encode([[*frame, "later"] for frame in value])
    shorter = b"\x01" + msgspec.msgpack.encode([frame[:-2] for frame in value])
    if name == "hello":
        assert frames.decode_hello(longer) == frames.decode_hello(bytes.fromhex(message))
        with pytest.raises(FrameInvalid):
            frames.decode_hello(shorter)
        return
    assert frames.decode_message(longer, 1) == frames.decode_message(bytes.fromhex(message), 1)
    with pytest.raises(FrameInvalid):
        frames.decode_message(shorter, 1)


def told_type(field: inspect.Field) -> str:
    """How the document calls the type of a field."""
    match field.type:
        case inspect.UnionType(types=(inspect.BytesType(), inspect.ListType())):
            return "held"
        case inspect.ListType(item_type=inspect.IntType(), max_length=most):
            return f"at most {most} u32s"
        case inspect.ListType(item_type=inspect.BytesType(min_length=6, max_length=18), max_length=most):
            return f"at most {most} endpoints"
        case inspect.DictType(value_type=inspect.BytesType(max_length=length), max_length=most):
            return f"map of at most {most} u32s to {length} bytes"
        case inspect.BytesType(min_length=20, max_length=20):
            return "id"
        case inspect.StrType(max_length=most):
            return f"text of {most}"
        case inspect.IntType(le=frames.BLOB_MAX_BYTES):
            return "size"
        case inspect.IntType(ge=0, le=int(most)):
            return f"u{most.bit_length()}"
        case inspect.IntType(ge=least, le=most):
            return f"{least} to {most}"
        case inspect.BoolType():
            return "bool"
        case _:
            raise AssertionError(f"{field.name}: {field.type}")


@pytest.mark.parametrize("number", frames.NAMES)
def test_the_elements_of_a_frame(number: int) -> None:
    kind = frames.NAMES[number]
    found = re.search(rf"^### {number} {name_of(kind)}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, f"the document does not describe {name_of(kind)}"
    table = re.search(r"^\| element \| type \| \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", found[1], re.MULTILINE)
    rows = [line.split("|")[1:3] for line in table[1].splitlines()] if table else []
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    assert [
        (name.strip(), kind.partition(", default")[0].strip(), ", default" in kind) for name, kind in rows
    ] == [
        (field.name, told_type(field), not one.required)
        for field, one in zip(described.fields, fields(kind), strict=True)
    ]


def test_the_codes() -> None:
    told = re.findall(r"^\| (4\d{3}) (\w+) \|", TEXT, re.MULTILINE)
    unsaid = (ChannelEnd.LOST, ChannelEnd.STALLED)
    assert told == [(str(one.value), one.name.lower()) for one in ChannelEnd if one not in unsaid]


@pytest.mark.parametrize(("kind", "heading"), [(LeaveReason, "7 CLOSE"), (DeclineReason, "8 DECLINE")])
def test_the_reasons(kind: type[LeaveReason] | type[DeclineReason], heading: str) -> None:
    row = re.search(rf"^### {heading}\n.*?^\| reason \| u8 \| (.*?) \|$", TEXT, re.DOTALL | re.MULTILINE)
    assert row
    told = re.findall(r"(\d) ([a-z]+(?: up)?)(?=[,:;])", row[1])
    assert told == [(str(one.value), one.name.lower().replace("_", " ")) for one in kind]


def test_the_pieces() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 11
    for size_bytes, piece_bytes, count in ((int(a), int(b), int(c)) for a, b, c in rows):
        layout = PieceLayout.of(size_bytes)
        assert (layout.piece_bytes, layout.count) == (piece_bytes, count)
        assert (count + 7) // 8 <= frames.BITFIELD_MAX_BYTES


def test_the_numbers() -> None:
    assert f"    GET {wire.CHANNEL_PATH}\n" in TEXT
    for told in (
        f"1 to {frames.FRAMES_MAX_COUNT} frames",
        f"at most {frames.MESSAGE_MAX_BYTES:,} bytes",
        f"`bin`, at most {frames.BITFIELD_MAX_BYTES:,} bytes",
        f"at most {frames.RANGES_MAX_COUNT} pairs",
        f"0 to 2^{frames.BLOB_MAX_BYTES.bit_length() - 1}",
        f"at most {frames.DIGESTS_MAX_COUNT:,} pieces",
        f"at most {PARAMS.streams_max_count} streams",
        f"at least {PARAMS.batch_s * 1000:g} ms",
        f"hears nothing for {PARAMS.ping_after_s:g} s sends a ping",
        f"nothing for {PARAMS.ping_after_s / 2:g} s more",
        f"for {PARAMS.idle_s:g} s, or room",
        f"no handshake within {PARAMS.handshake_s:g} s",
        f"faster than {PARAMS.units_per_s:,g} a second for {PARAMS.flood_max_s:g} s",
        f"takes nothing for {PARAMS.send_stall_s:g} s",
        f"duplicate for {PARAMS.crossing_s:g} s",
        f"at most {PARAMS.digest_asks_max_count} at a time",
    ):
        assert told in TEXT.replace("\n", " "), told
    assert frames.SPOKEN_VERSIONS == (1,)
    assert str(Digest.of(b"")) in TEXT
