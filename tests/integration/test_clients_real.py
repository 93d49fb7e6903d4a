"""Docker with containerd's image store, nerdctl and ctr pull through real daemons, each on a host of its own."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.support import wicked_daemon
from tests.support.client_bed import DOCKER, ClientKind, client_bed
from tests.support.oci_image import Image, build_image

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

KINDS = [
    DOCKER,
    *(
        pytest.param(kind, marks=pytest.mark.matrix)
        for kind in (
            ClientKind("nerdctl", "1.7"),
            ClientKind("nerdctl", "2.1"),
            ClientKind("nerdctl", "2.1", "k8s.io"),
            ClientKind("ctr", "1.6", "k8s.io"),
            ClientKind("ctr", "1.7", "k8s.io"),
            ClientKind("ctr", "2.1", "k8s.io"),
            ClientKind("ctr", "2.1", "default", ("--local",)),
        )
    ),
]
_SEEDS = count(640_000)


def new_image() -> Image:
    return build_image(next(_SEEDS), [1_500_000, 90_000])


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_what_one_host_pulled_the_next_one_has_from_it(short_folder: Path, kind: ClientKind) -> None:
    """By tag, the registry is asked for the tag alone; by digest, for nothing. Without a daemon, pulls go on."""
    async with client_bed(short_folder / f"c{next(_SEEDS)}", kind) as it:
        tagged, named, alone = new_image(), new_image(), new_image()
        by_tag, _ = it.add(tagged, "lib/tagged")
        assert await it.first.pull(by_tag) == ""
        await it.known(tagged)
        since = len(it.origin.journal)
        assert await it.second.pull(by_tag) == ""
        assert it.asked(since) == ["HEAD head v1"]
        assert it.second.host.counted("bytes_received_from_peers") == tagged.size_bytes
        for layer in tagged.layers:
            assert await it.second.held(layer.digest) == layer.content

        _, by_digest = it.add(named, "lib/named")
        assert await it.first.pull(by_digest) == ""
        await it.first.host.wait(lambda: it.first.host.counted("announced_digests") >= 2 * len(list(named)))
        await it.known(named)
        await it.origin.refuse()
        assert await it.second.pull(by_digest) == ""
        await it.origin.listen_again()

        by_tag, _ = it.add(alone, "lib/alone")
        await it.second.host.daemon.kill()
        since = len(it.origin.journal)
        assert await it.second.pull(by_tag) == ""
        assert len(it.asked(since)) == 2 + len(list(alone.layers)) + 1


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_peer_that_lies_spoils_one_pull_at_most(short_folder: Path, kind: ClientKind) -> None:
    """What the client's containerd refused must not stay there: it would refuse each later pull of the image."""
    async with client_bed(short_folder / f"c{next(_SEEDS)}", kind) as it:
        image = new_image()
        by_tag, _ = it.add(image, "lib/app")
        assert await it.first.pull(by_tag) == ""
        await it.first.host.turn_wicked(wicked_daemon.CORRUPT_LAYERS)
        second = it.second.host
        await second.wait(lambda: all(one.host.counted("members") == 1 for one in it.hosts))
        await it.known(image)
        if failure := await it.second.pull(by_tag):
            assert "sha256" in failure
            await second.wait(lambda: "holds no unfinished" in second.daemon.log())
            assert await it.second.pull(by_tag) == ""
        assert second.counted("bytes_received_from_peers") > 0, "the liar was not asked"
        for layer in image.layers:
            assert await it.second.held(layer.digest) == layer.content
