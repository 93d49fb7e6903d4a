"""Whose words a user reads when a pull fails: with no mirror, with our mirror refusing, and with it dead.

The rule under test: with our layout in place a failed pull by tag reads as if it had never been installed.
Where that cannot be had, the tests say what is read instead, so that the documentation can be honest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from tests.support.bed_hosts_toml import install, mirror_layout
from tests.support.cri_pull import PullFailed, cri_pull
from tests.support.oci_image import Image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import (
    Answer,
    Asked,
    End,
    Journal,
    RecordingHost,
    Serve,
    Shelf,
    Status,
    refused_address,
)

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

What = Literal["tag", "digest", "blob"]
# What our two hosts do with every request.
Ours = Literal["dead", "404", "end"]
Words = Literal["the origin's", "not found", "our address"]

FAILURES = ("401", "401 at the token realm", "403", "404", "429", "500", "503", "refused")
# On 2.1 an origin that gave a status outranks other hosts; these two failures have none.
WITHOUT_STATUS = ("401 at the token realm", "refused")


def expected_words(version: str, what: What, ours: Ours, failure: str) -> Words:
    newest = version == "2.1"
    if what == "blob":
        # The first host's error wins, and a digest is asked of us first.
        return "our address" if ours == "dead" else "not found"
    if what == "digest" and ours == "dead":
        return "our address" if not newest or failure in WITHOUT_STATUS else "the origin's"
    if ours == "404":
        return "not found" if newest and failure in WITHOUT_STATUS else "the origin's"
    # Asked for a tag, and the fallback host ends the connection or refuses it: before 2.1 a 404 of the origin
    # counts for less than that.
    return "our address" if not newest and failure == "404" else "the origin's"


def tag_refusal(version: str) -> Ours:
    """How the fallback host refuses a tag, chosen by the client's version, as its User-Agent tells."""
    return "end" if version == "2.1" else "404"


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("ours", ["dead", "404", "end"])
async def test_words_read_for_a_tag(
    containerd: RealContainerd, version: str, fresh_image: Image, ours: Ours, failure: str
) -> None:
    await _check(containerd, version, fresh_image, "tag", ours, failure)


@pytest.mark.matrix
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("ours", ["dead", "404"])
@pytest.mark.parametrize("what", ["digest", "blob"])
async def test_words_read_for_a_digest(
    containerd: RealContainerd, version: str, fresh_image: Image, what: What, ours: Ours, failure: str
) -> None:
    await _check(containerd, version, fresh_image, what, ours, failure)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_tag_is_refused_so_that_the_origins_words_are_read(version: str, failure: str) -> None:
    assert expected_words(version, "tag", tag_refusal(version), failure) == "the origin's"


async def _check(
    containerd: RealContainerd, version: str, image: Image, what: What, ours: Ours, failure: str
) -> None:
    shelf, journal = Shelf(), Journal()
    shelf.add(image, "lib/small", "v1")
    async with (
        RecordingHost("mirror", shelf, journal, lambda _: End() if ours == "end" else Status(404)) as mirror,
        RecordingHost("origin", shelf, journal) as origin,
    ):
        origin.answer = lambda asked: _origin_answer(asked, what, failure, origin.url)
        name = f"{origin.authority}/lib/small" + (f"@{image.manifest.digest}" if what == "digest" else ":v1")
        if failure == "refused" and what != "blob":
            await origin.stop()
        plain = await cri_pull(containerd, name)
        with _our_authority(mirror, ours) as authority:
            install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, f"http://{authority}"))
            ours_in_place = await cri_pull(containerd, name)
    assert isinstance(plain, PullFailed)
    assert isinstance(ours_in_place, PullFailed)
    message = ours_in_place.message
    match expected_words(version, what, ours, failure):
        case "the origin's":
            assert _comparable(message) == _comparable(plain.message)
        case "not found":
            assert message.endswith("not found")
            assert authority not in message
        case "our address":
            assert authority in message


def _origin_answer(asked: Asked, what: What, failure: str, url: str) -> Answer:
    if what == "blob" and asked.kind == "manifests":
        return Serve()
    if failure == "refused":  # of a blob only: the host has answered for the manifest
        return End()
    if failure != "401 at the token realm":
        return Status(int(failure), body='{"errors":[{"code":"X","message":"words of the origin"}]}')
    if asked.reference == "/token":
        return Status(401)
    challenge = f'Bearer realm="{url}/token",service="registry",scope="repository:lib/small:pull"'
    return Status(401, (("WWW-Authenticate", challenge),))


@contextmanager
def _our_authority(mirror: RecordingHost, ours: Ours) -> Iterator[str]:
    if ours != "dead":
        yield mirror.authority
        return
    with refused_address() as nobody:
        yield nobody


def _comparable(message: str) -> str:
    # A registry on loopback without hosts.toml is tried with both schemes, and either may be named.
    return re.sub(r"https?://", "", message)
