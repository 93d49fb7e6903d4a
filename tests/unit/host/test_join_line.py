"""A join line says what was put in, or that it cannot be read; it never shows a secret."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.host import join_line
from mirror.host.join_line import ADDRESSES_MAX_COUNT, Invitation, JoinLineInvalid
from mirror.settings.model import Address, StaticBootstrap

SECRET = bytes(range(32))
PEER = StaticBootstrap(Address("10.0.0.11", 29021))

peers = st.builds(
    StaticBootstrap,
    st.builds(Address, st.ip_addresses(v=4).filter(lambda ip: int(ip) > 0).map(str), st.integers(1, 65535)),
)
invitations = st.builds(
    Invitation,
    cluster=st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
    peers=st.lists(peers, max_size=ADDRESSES_MAX_COUNT).map(tuple),
    secret=st.none() | st.binary(min_size=32, max_size=32),
)


@given(invitations)
def test_a_line_says_what_was_put_in(invitation: Invitation) -> None:
    line = join_line.write(invitation)
    assert join_line.read(line) == invitation
    assert line.isascii() and not any(character in line for character in " '\"$\\&;|<>*?!#")


@given(invitations, st.data())
def test_no_part_of_a_line_is_taken_for_a_line(invitation: Invitation, data: st.DataObject) -> None:
    line = join_line.write(invitation)
    cut = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(JoinLineInvalid):
        join_line.read(line[:cut])


def test_breaks_and_space_that_a_terminal_adds_are_no_matter() -> None:
    line = join_line.write(Invitation("home", (PEER,), SECRET))
    assert join_line.read(f"  {line[:30]}\r\n   {line[30:]}\n").secret == SECRET


def sealed(document: bytes) -> str:
    checked = zlib.crc32(document).to_bytes(4) + document
    return "peili-" + base64.urlsafe_b64encode(checked).decode().rstrip("=")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"v":2,"cluster":"a","at":[]}',
        b'{"v":1,"cluster":"A B","at":[]}',
        b'{"v":1,"cluster":"a","at":["0.0.0.0:1"]}',
        b'{"v":1,"cluster":"a","at":["host"]}',
        b'{"v":1,"cluster":"a","at":[],"secret":"AAAA"}',
        b'{"v":1,"cluster":"a","at":[],"secret":"\xc3\xa4"}',
        b'{"v":1,"cluster":"a","at":[' + b",".join([b'"10.0.0.1:1"'] * 9) + b"]}",
    ],
)
def test_a_whole_line_that_says_something_else_is_of_another_release(document: bytes) -> None:
    with pytest.raises(JoinLineInvalid, match="another release"):
        join_line.read(sealed(document))


@pytest.mark.parametrize("text", ["", "peili", "token:abc", "peili-" + "A" * 3000])
def test_what_is_no_line_is_told_so(text: str) -> None:
    with pytest.raises(JoinLineInvalid, match="is no join line"):
        join_line.read(text)


def test_an_error_never_shows_the_secret() -> None:
    line = join_line.write(Invitation("home", (PEER,), SECRET))
    for text in (line[:-1], line + "A", line.replace("peili-", "Peili-"), line[:40] + "!" + line[41:]):
        with pytest.raises(JoinLineInvalid) as caught:
            join_line.read(text)
        assert line[20:30] not in str(caught.value) and caught.value.__cause__ is None
    assert base64.b64encode(SECRET).decode()[:8] not in repr(join_line.read(line))
    assert "\\x01" not in repr(join_line.read(line))
