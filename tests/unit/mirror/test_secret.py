"""The secret file and its subkeys."""

from __future__ import annotations

import base64
from hashlib import blake2s
from pathlib import Path

import pytest

from mirror.secret import ClusterSecret, SecretInvalid, Subkey, readable_by_others

FIRST = bytes(range(32))
SECOND = bytes(range(32, 64))


def line(secret: bytes) -> bytes:
    return base64.b64encode(secret)


@pytest.mark.parametrize(
    "content",
    [
        line(FIRST),
        line(FIRST) + b"\n",
        line(FIRST) + b"\n\n",
        line(FIRST) + b"\r\n",
        b"  " + line(FIRST) + b" \n",
    ],
)
def test_one_line_is_one_secret(content: bytes) -> None:
    assert ClusterSecret.parse(content, "secret").secrets == (FIRST,)


def test_two_lines_keep_their_order() -> None:
    assert ClusterSecret.parse(line(SECOND) + b"\n" + line(FIRST), "secret").secrets == (SECOND, FIRST)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has 0 lines"),
        (b"\n \n", "has 0 lines"),
        (b"\n".join([line(FIRST)] * 3), "has 3 lines"),
        (b"\n" + line(FIRST), "line 1 of secret holds 0 bytes"),
        (line(FIRST) + b"\nnot base64!", "line 2 of secret is not base64"),
        (line(FIRST)[:-1], "line 1 of secret is not base64"),
        (FIRST, "is not base64|lines"),
        (line(FIRST[:31]), "line 1 of secret holds 31 bytes, not 32"),
        (line(FIRST + b"x"), "line 1 of secret holds 33 bytes, not 32"),
        (b"A" * 5000, "longer than 4096 bytes"),
    ],
)
def test_anything_else_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(SecretInvalid, match=reason):
        ClusterSecret.parse(content, "secret")


def test_no_message_shows_what_the_file_holds() -> None:
    almost = line(FIRST)[:-1]
    with pytest.raises(SecretInvalid) as caught:
        ClusterSecret.parse(almost, "secret")
    assert almost.decode() not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SecretInvalid, match=r"absent cannot be read: No such file.*make one with: head -c 32"
    ):
        ClusterSecret.load(tmp_path / "absent")
    with pytest.raises(SecretInvalid, match="cannot be read: Is a directory"):
        ClusterSecret.load(tmp_path)


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(line(FIRST) + b"\n")
    assert ClusterSecret.load(path) == ClusterSecret((FIRST,))


def test_what_the_recipe_in_the_messages_makes_is_accepted() -> None:
    made = base64.encodebytes(FIRST)  # what `head -c 32 /dev/urandom | base64` prints
    assert ClusterSecret.parse(made, "secret").secrets == (FIRST,)


def test_subkeys_are_blake2s_bound_to_use_and_cluster() -> None:
    keys = ClusterSecret((FIRST, SECOND)).subkeys("peerhttp", "staging")
    assert [key.key for key in keys] == [
        blake2s(b"staging", key=secret, person=b"peerhttp").digest() for secret in (FIRST, SECOND)
    ]
    assert all(len(key.key) == 32 for key in keys)


def test_subkeys_do_not_change_between_releases() -> None:
    (key,) = ClusterSecret((FIRST,)).subkeys("peerhttp", "peili")
    assert key.key.hex() == "d2f9d33beb1f6fb8f06105090ddc8de843e0c0a18f45b24b756a8712afe58060"
    assert key.key_id == "c89c9782"


def test_use_cluster_and_secret_each_change_the_key_and_its_id() -> None:
    keys = [
        *ClusterSecret((FIRST, SECOND)).subkeys("peerhttp", "peili"),
        *ClusterSecret((FIRST,)).subkeys("datagram", "peili"),
        *ClusterSecret((FIRST,)).subkeys("peerhttp", "staging"),
    ]
    assert len({key.key for key in keys}) == len({key.key_id for key in keys}) == 4
    assert all(len(key.key_id) == 8 and int(key.key_id, 16) >= 0 for key in keys)


def test_a_use_that_blake2s_cannot_take_is_a_defect() -> None:
    for use in ("", "ninechars"):
        with pytest.raises(AssertionError):
            ClusterSecret((FIRST,)).subkeys(use, "peili")


def test_no_repr_shows_a_byte_of_a_secret() -> None:
    secret = ClusterSecret((FIRST,))
    (key,) = secret.subkeys("peerhttp", "peili")
    assert repr(secret) == "ClusterSecret()"
    assert repr(key) == f"Subkey(key_id='{key.key_id}')"
    assert f"{key}" == repr(key) == str(Subkey(key.key_id, b"other"))


@pytest.mark.parametrize(
    ("mode", "is_readable"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)]
)
def test_readable_by_others(tmp_path: Path, mode: int, is_readable: bool) -> None:
    path = tmp_path / "secret"
    path.touch()
    path.chmod(mode)
    assert readable_by_others(path) is is_readable


def test_readable_by_others_of_an_absent_file(tmp_path: Path) -> None:
    assert readable_by_others(tmp_path / "absent") is False
