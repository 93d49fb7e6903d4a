import hashlib

import pytest

from mirror.oci.digest import Digest, DigestInvalid

SHA256 = "sha256:" + hashlib.sha256(b"x").hexdigest()


def test_a_digest_reads_back_as_it_was_written() -> None:
    assert str(Digest.parse(SHA256)) == SHA256
    assert Digest.parse("sha512:" + "0" * 128).algorithm == "sha512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 63 + "\n",
        "../sha256:" + "a" * 64,
        SHA256 + "/..",
        "sha256:" + "٣" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


def test_bytes_match_their_own_digest_only() -> None:
    assert Digest.of(b"x").matches(b"x")
    assert not Digest.of(b"x").matches(b"y")
    assert Digest.of(b"x", "sha512").matches(b"x")
