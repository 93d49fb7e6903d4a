"""docs/wire/dht.md against the code: its examples are run, its tables compared."""

from __future__ import annotations

import ast
import re
from enum import IntEnum
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct, inspect
from msgspec.structs import fields

from dht.bootstrap import lan, multicast
from dht.endpoints import Endpoint
from dht.errors import FrameInvalid
from dht.params import Params
from dht.wire import codec
from dht.wire.envelope import ENVELOPE_BYTES, Envelope, Key
from dht.wire.guard import Admitted, Challenged, Guard
from mirror.discovery.dht_settings import DHT_USE
from mirror.secret import ClusterSecret

TEXT = (Path(__file__).resolve().parents[3] / "docs/wire/dht.md").read_text()
PARAMS = Params()
TIME_MS = 1_800_000_000_123
WHOLE = ("request", "advertised", "tokenless", "challenge", "token")
REQUESTS = {name: request for request, name in codec.NAMES.items()}

# Each heading's tables of elements, in their order.
TABLES: dict[str, list[type[Struct]]] = {
    "contact": [codec.WireContact],
    "provider": [codec.WireProvider],
    "delta": [codec.Delta],
    "fence": [codec.Fence],
    "participant": [codec.Participant],
    **{
        name: [request, codec.RESULTS[request]] if request in codec.RESULTS else []
        for name, request in REQUESTS.items()
    },
    # The result of `join` is that of `members`.
    "join": [codec.Join],
    "Challenge": [codec.Challenge],
    "Beacon": [codec.Beacon],
}


def example(name: str) -> dict[str, str]:
    found = re.search(rf"```example {name}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"the document has no example {name}"
    return dict(line.split(None, 1) for line in found[1].splitlines())


def bodies(name: str) -> list[tuple[str, object, bytes]]:
    """(request, response, …; the value; the body)."""
    found = re.search(rf"```example {name}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"the document has no example {name}"
    lines = [line.split(None, 1) for line in found[1].splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(kind, value_of(text), bytes.fromhex(body)) for (kind, text), (_, body) in pairs]


def value_of(text: str) -> object:
    for theirs, ours in (
        (r"h'([0-9a-f]*)'", r"bytes.fromhex('\1')"),
        (r"\btrue\b", "True"),
        (r"\bfalse\b", "False"),
    ):
        text = re.sub(theirs, ours, text)
    text = re.sub(r"bytes\.fromhex\('([0-9a-f]*)'\)", lambda found: repr(bytes.fromhex(found[1])), text)
    return ast.literal_eval(text.replace("null", "None"))


def key_of(told: dict[str, str]) -> tuple[Key, ...]:
    if told["secret"] == "-":
        return ()
    subkeys = ClusterSecret.parse(told["secret"].encode(), "the document").subkeys(DHT_USE, told["cluster"])
    return tuple(Key(bytes.fromhex(one.key_id), one.key) for one in subkeys)


def node_of(text: str) -> bytes | None:
    return None if text == "-" else bytes.fromhex(text)


def advertised_of(text: str) -> Endpoint | None:
    if text == "-":
        return None
    address, port = text.split()
    return Endpoint(address, int(port))


def test_the_key() -> None:
    told = example("key")
    assert key_of(told) == (Key(bytes.fromhex(told["key-id"]), bytes.fromhex(told["key"])),)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_datagram(name: str) -> None:
    told = example(name)
    sender = Envelope(
        bytes.fromhex(told["from"]),
        int(told["epoch"]),
        told["cluster"],
        key_of(told),
        first_sequence=int(told["sequence"]),
    )
    datagram = sender.seal(
        bytes.fromhex(told["frame"]),
        destination=node_of(told["to"]),
        now_ms=int(told["time"]),
        token=bytes.fromhex(told.get("token", "")),
        advertised=advertised_of(told["advertised"]),
    )
    assert datagram.hex() == told["datagram"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_receiver_admits_it(name: str) -> None:
    told = example(name)
    receiver = node_of(told["to"]) or b"r" * 20
    guard = Guard(Envelope(receiver, 1, told["cluster"], key_of(told)), PARAMS, bytes)
    source = Endpoint("10.0.0.1", 29021)
    found = guard.admit(bytes.fromhex(told["datagram"]), source, 0.0, TIME_MS / 1000)
    if name in ("tokenless", "token"):
        # The token of the example is another node's.
        assert isinstance(found, Challenged)
        return
    assert isinstance(found, Admitted)
    assert found.sender == bytes.fromhex(told["from"])
    assert found.endpoint == (advertised_of(told["advertised"]) or source)
    assert found.message_id + found.body == bytes.fromhex(told["frame"])[1:]


def test_the_token_comes_back() -> None:
    challenge = codec.decode_challenge(codec.split(bytes.fromhex(example("challenge")["frame"]))[2])
    assert challenge == codec.Challenge(codec.ChallengeReason.TOKEN, bytes.fromhex(example("token")["token"]))


@pytest.mark.parametrize("name", REQUESTS)
def test_an_rpc(name: str) -> None:
    message_id = bytes(20)
    request_type = REQUESTS[name]
    for kind, value, body in bodies(name):
        assert msgspec.msgpack.encode(value) == body
        if kind == "request":
            request = codec.decode_request(body)
            assert type(request) is request_type
            assert codec.encode_request(message_id, request)[21:] == body
        else:
            result, deltas = codec.decode_response(request_type, body)
            assert codec.encode_response(message_id, result, deltas)[21:] == body
    assert [kind for kind, _, _ in bodies(name)] == ["request", "response"][
        : 1 + (request_type in codec.RESULTS)
    ]


def test_challenge_and_beacon() -> None:
    ((_, value, body),) = bodies("challenge-body")
    assert msgspec.msgpack.encode(value) == body
    assert codec.encode_challenge(bytes(20), codec.decode_challenge(body))[21:] == body
    ((_, value, body),) = bodies("beacon")
    assert msgspec.msgpack.encode(value) == body
    assert codec.encode_beacon(bytes(20), codec.decode_beacon(body))[21:] == body


def test_a_later_release_may_add_and_no_more() -> None:
    """Every example, longer by one element, still reads; shorter by its first, it does not."""
    for name in REQUESTS:
        for kind, value, _ in bodies(name):
            assert isinstance(value, list)
            longer = msgspec.msgpack.encode([value[0], *value[1:], "later"])
            shorter = msgspec.msgpack.encode(value[1:])
            if kind == "request":
                codec.decode_request(longer)
                with pytest.raises(FrameInvalid):
                    codec.decode_request(shorter)
            else:
                codec.decode_response(REQUESTS[name], longer)
                with pytest.raises(FrameInvalid):
                    codec.decode_response(REQUESTS[name], shorter)


# -- tables --------------------------------------------------------------------------------------------------------


def tables(heading: str) -> list[list[tuple[str, str]]]:
    """(element, type) of each table of elements below the heading."""
    found = re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, f"the document has no heading {heading}"
    parts = re.findall(r"^\| element \| type \| \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", found[1], re.MULTILINE)
    rows = [[line.split("|")[1:3] for line in part.splitlines()] for part in parts]
    return [[(name.strip(), kind.strip()) for name, kind in table] for table in rows]


def told_type(field: inspect.Field) -> str:
    """How the document calls the type of a field."""
    found = field.type
    may_be_nil = isinstance(found, inspect.UnionType)
    if isinstance(found, inspect.UnionType):
        (found,) = [one for one in found.types if not isinstance(one, inspect.NoneType)]
    names: dict[type, str] = {
        codec.WireContact: "contact",
        codec.WireProvider: "provider",
        codec.Fence: "fence",
        codec.Participant: "participant",
        codec.Delta: "delta",
    }
    match found:
        case inspect.StructType(cls=cls):
            told = names[cls]
        case inspect.ListType(item_type=inspect.StructType(cls=cls), max_length=most):
            told = f"at most {most} {names[cls]}s"
        case inspect.ListType(item_type=inspect.BytesType(min_length=20, max_length=20), max_length=most):
            told = f"at most {most} ids"
        case inspect.BytesType(min_length=20, max_length=20):
            told = "id"
        case inspect.BytesType(min_length=6, max_length=24):
            told = "endpoints"
        case inspect.BytesType(min_length=20, max_length=960):
            told = "keys"
        case inspect.BytesType(min_length=None, max_length=48):
            told = "info"
        case inspect.BytesType(min_length=least, max_length=most) if least == most:
            told = f"{most} bytes"
        case inspect.BytesType(max_length=most):
            told = f"at most {most} bytes"
        case inspect.IntType(ge=0, le=int(most)):
            told = f"u{most.bit_length()}"
        case inspect.IntType(ge=least, le=most):
            told = f"{least} to {most}"
        case inspect.BoolType():
            told = "bool"
        case _:
            raise AssertionError(f"{field.name}: {found}")
    return f"{told} or nil" if may_be_nil else told


@pytest.mark.parametrize("heading", TABLES)
def test_the_elements_of_a_struct(heading: str) -> None:
    in_code = []
    for struct in TABLES[heading]:
        described = inspect.type_info(struct)
        assert isinstance(described, inspect.StructType)
        has_default = [not one.required for one in fields(struct)]
        in_code.append(
            [
                (field.name, told_type(field), default)
                for field, default in zip(described.fields, has_default, strict=True)
            ]
        )
    in_text = [
        [(name, kind.partition(", default")[0], ", default" in kind) for name, kind in table]
        for table in tables(heading)
    ]
    assert in_text == in_code


@pytest.mark.parametrize(
    ("heading", "numbers"), [("outcome", codec.Outcome), ("reason of an ask", codec.AskReason)]
)
def test_the_numbers_of(heading: str, numbers: type[IntEnum]) -> None:
    found = re.search(rf"^\| {heading} \| \|\n\|---\|---\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found, f"the document has no table of {heading}"
    told = re.findall(r"^\| (\d) ([a-z ]+) \|", found[1], re.MULTILINE)
    assert told == [(str(one.value), one.name.lower().replace("_", " ")) for one in numbers]


def test_one_claim_more_is_asked_for_and_an_older_request_asks_for_none() -> None:
    found = re.search(r"```example claim-one-more\nrequest +(.*)\nbody +(.*)\n```", TEXT)
    assert found, "the document has no example claim-one-more"
    value, body = value_of(found[1]), bytes.fromhex(found[2])
    assert msgspec.msgpack.encode(value) == body
    request = codec.decode_request(body)
    assert isinstance(request, codec.Claim)
    assert (request.verb, request.reason) == (codec.Verb.ASK, codec.AskReason.SLOW_CLAIMANT)
    assert codec.encode_request(bytes(20), request)[21:] == body
    assert isinstance(value, list)
    # The least that a release may say; and a number of a later one's, which is none to the codec's mind.
    for arguments, reason in ((value[1][:3], codec.AskReason.NEEDED), ([*value[1][:6], 255], 255)):
        other = codec.decode_request(msgspec.msgpack.encode([value[0], arguments]))
        assert isinstance(other, codec.Claim)
        assert other.reason == reason


def test_the_numbers_are_those_of_the_code() -> None:
    votes = "latest 15 authenticated differences, two a node"
    for words in (
        f"{PARAMS.datagram_max_bytes:,} bytes together",
        f"more than {PARAMS.freshness_s:.0f} s off",
        f"the {PARAMS.replay_window_count:,} stamps up to it",
        f"accepted for {2.5 * PARAMS.freshness_s:.0f} s is forgotten",
        f"less than {PARAMS.freshness_s / 4:.0f} s is none",
        f"accepted for {PARAMS.token_rotate_s:.0f} to {2 * PARAMS.token_rotate_s:.0f} s",
        f"more than {PARAMS.sender_rate_per_s:.0f} times a second, after a burst of {PARAMS.sender_burst_count:,}",
        f"at most {PARAMS.tokenless_rate_per_s:,.0f} times a second in all, after a burst of as many",
        f"larger than {PARAMS.amplification_max} times the request",
        f"time-out of {PARAMS.rpc_timeout_s} s",
        f"the answerer gives {PARAMS.sample_count} at most",
        f"`{multicast.GROUP_V4}` and `{multicast.GROUP_V6}`, port {lan.PORT}",
        f"fewer than {ENVELOPE_BYTES + 1} or more than {PARAMS.datagram_max_bytes:,} bytes",
        f"a frame of fewer than {codec.FRAME_MIN_BYTES} bytes",
        votes,
    ):
        assert words in " ".join(TEXT.split()), words


def test_every_word_for_a_refusal_is_explained() -> None:
    root = Path(__file__).resolve().parents[3]
    source = (root / "dht/wire/guard.py").read_text() + (root / "dht/wire/envelope.py").read_text()
    words = set(re.findall(r'(?:Refused|Dropped)\("([a-z_]+)"\)', source)) - {"amplification"}
    assert len(words) >= 12
    for word in words | {"duplicate_id", "replayed", "stale_epoch", "clock", "token"}:
        assert f"`{word}`" in TEXT, word
