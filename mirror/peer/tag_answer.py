"""How one daemon asks another for a tag, and the answer in JSON: see docs/wire/peer-http.md. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from mirror.errors import MirrorError
from mirror.oci.digest import Digest, DigestInvalid
from mirror.peer.wire import TAG_PATH
from mirror.tags.base import TagName

# A digest of 135 characters, two times and the names: 200 bytes, and room for what later versions add.
TAG_ANSWER_MAX_BYTES = 1024
# The year 5138: a time beyond is a mistake of units.
TIME_MAX_S = 100_000_000_000


class TagAnswerInvalid(MirrorError):
    """The bytes are no answer about a tag."""


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """A host's own record. Seconds since 1970; `public_at_s` None: that host did not find the repository public."""

    digest: Digest
    pulled_at_s: int
    public_at_s: int | None


class _Answer(msgspec.Struct):
    digest: str
    pulled_at: int
    public_at: int | None


_DECODER = msgspec.json.Decoder(_Answer)


def tag_target(name: TagName) -> str:
    """The path with its query. Only the brackets of an IPv6 address are encoded, of all that a name may have."""
    return f"{TAG_PATH}?name={quote(str(name), safe='/:')}"


def encode(answer: TagAnswer) -> bytes:
    return msgspec.json.encode(_Answer(str(answer.digest), answer.pulled_at_s, answer.public_at_s))


def decode(data: bytes) -> TagAnswer:
    """Fields of later versions are passed over. Raises: TagAnswerInvalid."""
    if len(data) > TAG_ANSWER_MAX_BYTES:
        raise TagAnswerInvalid(f"{len(data)} bytes are too many for an answer about a tag")
    try:
        told = _DECODER.decode(data)
        digest = Digest.parse(told.digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, DigestInvalid) as exc:
        raise TagAnswerInvalid(f"no answer about a tag: {str(exc)[:200]}") from exc
    for time_s in (told.pulled_at, told.public_at):
        if time_s is not None and not 0 <= time_s <= TIME_MAX_S:
            raise TagAnswerInvalid("no answer about a tag: a time out of all bounds")
    return TagAnswer(digest, told.pulled_at, told.public_at)
