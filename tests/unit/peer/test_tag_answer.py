"""What a peer says of a tag: what is sent can be read, what makes no sense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.digest import Digest
from mirror.origin.base import Repository
from mirror.peer.tag_answer import (
    TAG_ANSWER_MAX_BYTES,
    TIME_MAX_S,
    TagAnswer,
    TagAnswerInvalid,
    decode,
    encode,
    tag_target,
)
from mirror.tags.base import TagName

D = str(Digest.of(b"manifest"))
seconds = st.integers(0, TIME_MAX_S)


@given(st.binary(), seconds, st.none() | seconds)
def test_what_is_sent_can_be_read(data: bytes, pulled_at_s: int, public_at_s: int | None) -> None:
    answer = TagAnswer(Digest.of(data), pulled_at_s, public_at_s)
    encoded = encode(answer)
    assert decode(encoded) == answer
    assert len(encoded) <= TAG_ANSWER_MAX_BYTES


def test_the_longest_digest_fits() -> None:
    answer = TagAnswer(Digest.parse("sha512:" + "f" * 128), TIME_MAX_S, TIME_MAX_S)
    assert decode(encode(answer)) == answer


def test_fields_of_later_versions_are_passed_over() -> None:
    told = f'{{"digest":"{D}","later":[1],"pulled_at":7,"public_at":null}}'
    assert decode(told.encode()) == TagAnswer(Digest.parse(D), 7, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{",
        f'{{"digest":"{D}","pulled_at":7}}',
        f'{{"digest":"{D}","public_at":7}}',
        '{"pulled_at":7,"public_at":7}',
        '{"digest":null,"pulled_at":7,"public_at":null}',
        '{"digest":"v1","pulled_at":7,"public_at":null}',
        f'{{"digest":"{D.upper()}","pulled_at":7,"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":-1,"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":7,"public_at":-1}}',
        f'{{"digest":"{D}","pulled_at":{TIME_MAX_S + 1},"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":1e400,"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":"7","public_at":null}}',
        f'{{"digest":"{D}","pulled_at":true,"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":NaN,"public_at":null}}',
        f'{{"digest":"{D}","pulled_at":7,"public_at":null}} and more',
        f'{{"digest":"{D}","pulled_at":7,"public_at":null}}' + " " * TAG_ANSWER_MAX_BYTES,
        "[" * 900,
        "\udcff",
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(TagAnswerInvalid):
        decode(text.encode("utf-8", "surrogateescape"))


@given(st.binary(max_size=2 * TAG_ANSWER_MAX_BYTES))
def test_nothing_that_comes_escapes_as_another_error(data: bytes) -> None:
    with pytest.raises(TagAnswerInvalid):
        decode(data)


@pytest.mark.parametrize(
    ("registry", "target"),
    [
        ("reg.test:5000", "/peer/v1/tags?name=reg.test:5000/lib/app:v1"),
        ("[fd00::1]:5000", "/peer/v1/tags?name=%5Bfd00::1%5D:5000/lib/app:v1"),
    ],
)
def test_the_path_that_is_asked_for(registry: str, target: str) -> None:
    assert tag_target(TagName(Repository(registry, "lib/app"), "v1")) == target
