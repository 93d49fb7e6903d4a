"""Tags and refusals at the registry listener, with a real origin behind it that is well, refuses, limits or fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mirror.oci.scope import ImageScope
from mirror.origin.base import Repository, Standing
from mirror.origin.memory import OriginMemory
from mirror.tags.rules import TagPolicy
from tests.support.mirror_host import ask
from tests.support.oci_image import build_image
from tests.support.recording_mirror import Status
from tests.support.registry_bed import (
    CLOSED,
    OPEN,
    REGISTRY,
    RegistryBed,
    attestations,
    own_tag,
    registry_bed,
)
from tests.support.token_origin import Answer, rate_limited

IMAGE = build_image(3, [30_000])
NEWER = build_image(4, [30_000])
MANIFEST = IMAGE.manifest
LAYER = IMAGE.layers[0]
BY_DIGEST = f"manifests/{MANIFEST.digest}"
EVERYTHING = [blob.content for blob in IMAGE]
DOWN = Status(503)
NEW, OLD = "containerd/2.1.9+ds1", "containerd/1.7.24~ds1"


def found_public(memory: OriginMemory, repository: Repository) -> None:
    memory.note(repository, "1", Standing.PUBLIC, time.time() - 60.0)


async def refused(bed: RegistryBed, repository: Repository) -> bool:
    """In the way that leaves the user the origin's own words."""
    old = await bed.at_fallback(repository, "manifests/1", agent=OLD)
    return old.status == 404


# -- what the origin says now


async def test_a_tag_is_the_registrys_at_the_first_host() -> None:
    async with registry_bed(IMAGE, held=EVERYTHING, own=[own_tag(OPEN, IMAGE)]) as bed:
        assert (await bed.at_first(OPEN, "manifests/1", "HEAD")).status == 404
        assert bed.origin.journal == [], "nobody is asked for it"


@pytest.mark.parametrize("where", ["store", "relay"])
async def test_what_the_registry_shows_to_everybody_is_told_fresh(where: str, tmp_path: Path) -> None:
    """It failed this host, though: with credentials that are wrong, say."""
    held = [blob.content for blob in NEWER] if where == "store" else []
    spool_in = tmp_path if where == "relay" else None
    async with registry_bed(NEWER, held=held, own=[own_tag(OPEN, IMAGE)], spool_in=spool_in) as bed:
        answer = await bed.at_fallback(OPEN, "manifests/1")
        assert answer.status == 200
        assert answer.headers["Docker-Content-Digest"] == NEWER.manifest.digest, (
            "not the older one of this host"
        )
        assert answer.headers["Content-Type"] == NEWER.manifest.media_type
        assert answer.headers["Content-Length"] == str(len(NEWER.manifest.content))
        assert "Warning" not in answer.headers
        assert bed.tags("fresh") == bed.failures("tag", "public") == 1


async def test_what_nobody_here_could_give_is_refused_though_it_is_public() -> None:
    """Else the user reads that we have nothing, and not why the registry refused him."""
    async with registry_bed(IMAGE) as bed:
        assert await refused(bed, OPEN)
        assert bed.tags("missing") == 1


@pytest.mark.parametrize("repository", [CLOSED, Repository(REGISTRY, "team/none")])
async def test_what_it_refuses_or_does_not_have_is_refused(repository: Repository) -> None:
    """Whatever this host knows and holds, and whoever is named."""
    async with registry_bed(
        IMAGE,
        held=EVERYTHING,
        own=[own_tag(repository, IMAGE)],
        attested=attestations(IMAGE, 5),
        stale_private=[ImageScope(REGISTRY, "")],
    ) as bed:
        found_public(bed.memory, repository)
        assert await refused(bed, repository)
        assert bed.tags("refused") == 1


# -- what is told while it fails


@pytest.mark.parametrize("failure", [DOWN, Status(500), rate_limited("3600")])
async def test_a_public_tag_outlives_an_outage_and_says_so(failure: Answer) -> None:
    async with registry_bed(IMAGE, held=EVERYTHING, own=[own_tag(OPEN, IMAGE)]) as bed:
        found_public(bed.memory, OPEN)
        bed.origin.behave(failure)
        answer = await bed.at_fallback(OPEN, "manifests/1", "GET")
        assert (answer.status, answer.body) == (200, MANIFEST.content)
        assert answer.headers["Warning"].startswith('110 peili "the registry ')
        assert "as pulled at 20" in answer.headers["Warning"]
        assert bed.tags("stale") == 1


async def test_a_tag_that_only_others_know_needs_two_of_them() -> None:
    for count, status in ((1, 404), (2, 200)):
        async with registry_bed(IMAGE, held=EVERYTHING, attested=attestations(IMAGE, count)) as bed:
            found_public(bed.memory, OPEN)
            bed.origin.behave(DOWN)
            assert (await bed.at_fallback(OPEN, "manifests/1")).status == status


async def test_a_private_tag_is_told_only_where_it_is_named() -> None:
    for named, status in (([], 404), ([ImageScope(REGISTRY, "team/closed")], 200)):
        async with registry_bed(
            IMAGE, held=EVERYTHING, own=[own_tag(CLOSED, IMAGE)], stale_private=named
        ) as bed:
            bed.memory.reached(REGISTRY, time.time() - 60.0)
            bed.origin.behave(DOWN)
            assert (await bed.at_fallback(CLOSED, "manifests/1")).status == status


async def test_a_registry_that_never_answered_is_no_outage() -> None:
    async with registry_bed(
        IMAGE, held=EVERYTHING, own=[own_tag(OPEN, IMAGE)], stale_private=[ImageScope(REGISTRY, "")]
    ) as bed:
        await bed.origin.refuse()
        assert await refused(bed, OPEN)


async def test_a_tag_whose_manifest_is_at_no_host_is_refused() -> None:
    async with registry_bed(IMAGE, own=[own_tag(OPEN, IMAGE)]) as bed:
        found_public(bed.memory, OPEN)
        bed.origin.behave(DOWN)
        answer = await bed.at_fallback(OPEN, "manifests/1")
        assert answer.status == 404
        assert "Warning" not in answer.headers
        assert bed.tags("missing") == 1


async def test_peers_answer_first_where_the_operator_says_so() -> None:
    for own, attested in (([own_tag(CLOSED, IMAGE)], []), ([], attestations(IMAGE, 1, is_public=False))):
        async with registry_bed(
            IMAGE, held=EVERYTHING, policy=TagPolicy.PEERS, own=own, attested=attested
        ) as bed:
            answer = await bed.at_first(CLOSED, "manifests/1", "HEAD")
            assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, MANIFEST.digest)
            assert bed.origin.journal == []


async def test_off_is_off() -> None:
    async with registry_bed(IMAGE, held=EVERYTHING, policy=TagPolicy.OFF, own=[own_tag(OPEN, IMAGE)]) as bed:
        assert await refused(bed, OPEN)
        assert bed.origin.journal == []


# -- digests at the fallback host


@pytest.mark.parametrize(("repository", "status"), [(OPEN, 200), (CLOSED, 404)])
async def test_a_manifest_that_the_registry_refuses_to_everybody_is_not_given(
    repository: Repository, status: int
) -> None:
    async with registry_bed(IMAGE, held=EVERYTHING) as bed:
        assert (await bed.at_fallback(repository, BY_DIGEST, "GET")).status == status
        kind = "public" if status == 200 else "refused"
        assert bed.failures("manifest", kind) == 1


async def test_digests_are_given_while_the_registry_fails() -> None:
    async with registry_bed(IMAGE, held=EVERYTHING) as bed:
        bed.origin.behave(DOWN)
        assert (await bed.at_fallback(CLOSED, BY_DIGEST, "GET")).body == MANIFEST.content
        assert (await bed.at_fallback(CLOSED, f"blobs/{LAYER.digest}", "GET")).body == LAYER.content
        assert bed.failures("manifest", "failing") == bed.failures("blob", "not_asked") == 1


async def test_what_is_protected_is_the_registrys_at_both_hosts() -> None:
    async with registry_bed(
        IMAGE, held=EVERYTHING, own=[own_tag(OPEN, IMAGE)], protected=[ImageScope(REGISTRY, "team/open")]
    ) as bed:
        found_public(bed.memory, OPEN)
        for failure in (None, DOWN):
            if failure is not None:
                bed.origin.behave(failure)
            assert (await bed.at_first(OPEN, BY_DIGEST)).status == 404
            assert (await bed.at_fallback(OPEN, BY_DIGEST, "GET")).status == 404
            assert await refused(bed, OPEN)
        # Registries give manifests as blobs, too, and containerd asks there after a 404.
        for method in ("HEAD", "GET"):
            assert (await bed.at_first(OPEN, f"blobs/{MANIFEST.digest}", method)).status == 404
            assert (await bed.at_fallback(OPEN, f"blobs/{MANIFEST.digest}", method)).status == 404
        for blob in (IMAGE.config, LAYER):
            assert (await bed.at_first(OPEN, f"blobs/{blob.digest}")).body == blob.content
        assert (await bed.at_first(CLOSED, BY_DIGEST)).status == 200, "another repository"


async def test_registries_are_heard_of_by_their_namespace_alone() -> None:
    async with registry_bed(IMAGE) as bed:
        await bed.at_first(OPEN, BY_DIGEST)
        await ask(f"{bed.host.registry_url}/v2/other.example/a/{BY_DIGEST}")
        assert bed.host.seen == [REGISTRY]
