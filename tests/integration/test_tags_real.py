"""Tags that move, registries that go away, and the table of docs/tags.md, with real containerds and daemons."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.oci_image import Image, build_image
from tests.support.origin_bed import Fault, OriginBed, by_tag, origin_bed, together
from tests.support.origin_host import METRICS_FLAG, PASSWORD, OriginHost
from tests.support.tag_table import STATES, TAGS, Cell, Outcome, reached, rendered, spliced, tried

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

VERSIONS = ("1.6", "1.7", "2.1")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/tags.md"
WRITE = "PEILI_WRITE_DOCS"
_FOLDERS = itertools.count()
_SEEDS = itertools.count(850_000)


def fresh() -> Image:
    return build_image(next(_SEEDS), [2_000])


@asynccontextmanager
async def running(folder: Path, fault: Fault, *flags: str, configured: str = "") -> AsyncIterator[OriginBed]:
    """Three hosts, each with a daemon, before one registry that is well."""
    async with origin_bed(folder / f"tags{next(_FOLDERS)}", VERSIONS, [fault]) as bed:
        await bed.start_daemons(METRICS_FLAG, *(flag.format(registry=bed.registries[0]) for flag in flags))
        for host in bed.hosts:
            host.configure_all(bed.registries, *filter(None, [configured]))
        yield bed


async def held(bed: OriginBed, fault: Fault, repository: str, image: Image, *hosts: OriginHost) -> str:
    """These hosts pull it, and all daemons know; a public one was found public. The image's name."""
    registry = bed.origins[fault].registry
    is_private = repository.startswith("private/")
    for tag in ("v0", "v1"):
        registry.add(image, repository, tag, is_private=is_private)
    name = by_tag(registry.authority, repository)
    for host in bed.hosts:
        await reached(host, registry.authority)
    for host in hosts:
        if not is_private:
            await host.ask(registry.authority, f"{repository}/manifests/v0", user_agent="containerd/2.1.0")
        assert (await host.pull(name, password=PASSWORD if is_private else "")).how == "pulled"
    return name


async def test_the_next_pull_of_a_tag_that_moved_gets_the_new_image_on_every_host(short_folder: Path) -> None:
    older, newer = fresh(), fresh()
    async with running(short_folder, "503") as bed:
        name = await held(bed, "503", "public/moves", older, *bed.hosts)
        bed.origins["503"].registry.add(newer, "public/moves", "v1")
        for host in bed.hosts:
            assert (await host.pull(name)).image_id == newer.config.digest
        # And an outage takes nobody back: the newer one is what this host has on record.
        await bed.fail()
        newest = bed.hosts[-1]
        assert (await newest.pull(name)).image_id == newer.config.digest


@pytest.mark.parametrize(
    "fault",
    [pytest.param("429", marks=pytest.mark.matrix), pytest.param("503", marks=pytest.mark.matrix), "refused"],
)
async def test_a_public_tag_outlives_its_registry_and_is_marked_stale(
    short_folder: Path, fault: Fault
) -> None:
    image = fresh()
    async with running(short_folder, fault) as bed:
        *holders, newest = bed.hosts
        name = await held(bed, fault, "public/app", image, *holders)
        await bed.known(dict.fromkeys(holders, 1), dict.fromkeys(holders, 1))
        await bed.fail()
        outcome = await newest.pull(name)
        assert (outcome.how, outcome.image_id) == ("pulled", image.config.digest), outcome
        told = await newest.ask(bed.registries[0], "public/app/manifests/v1")
        assert (told.status, told.digest) == (200, image.manifest.digest)
        assert told.warning.startswith('110 peili "')
        lines = [json.loads(line) for line in newest.daemon.log().splitlines()]
        assert [line for line in lines if line.get("image") == name and line["level"] == "warning"]
        assert await newest.metric('peili_tags_total{outcome="stale"}') >= 1
        # The first host has no answer: that is where the registry's word would be passed by.
        at_first = await newest.ask(bed.registries[0], "public/app/manifests/v1", is_fallback=False)
        assert at_first.status == 404


@pytest.mark.parametrize("is_named", [False, True])
async def test_a_private_tag_outlives_its_registry_only_where_it_is_named(
    short_folder: Path, is_named: bool
) -> None:
    image = fresh()
    flags = ["--stale-private={registry}/private"] if is_named else []
    async with running(short_folder, "503", *flags) as bed:
        *holders, newest = bed.hosts
        name = await held(bed, "503", "private/app", image, *holders)
        await bed.known(dict.fromkeys(holders, 1), dict.fromkeys(holders, int(is_named)))
        await bed.fail()
        outcome = await newest.pull(name, password=PASSWORD)
        assert outcome.how == ("pulled" if is_named else "failed"), outcome
        told = await newest.ask(bed.registries[0], "private/app/manifests/v1")
        assert told.digest == (image.manifest.digest if is_named else "")
        assert await newest.metric('peili_tags_total{outcome="stale"}') == (2 if is_named else 0)


async def test_before_2_1_an_older_tag_is_given_where_the_operator_says_so(short_folder: Path) -> None:
    async with running(short_folder, "503", configured="--stale-tags=on") as bed:
        names = {}
        for number, host in enumerate(bed.hosts):
            others = [other for other in bed.hosts if other is not host]
            names[host] = await held(bed, "503", f"public/n{number}", fresh(), *others)
        await bed.known(dict.fromkeys(bed.hosts, 2), dict.fromkeys(bed.hosts, 2))
        await bed.fail()
        for host, name in names.items():
            assert (await host.pull(name)).how == "pulled", host.version


async def test_a_local_image_under_a_name_of_the_registry_is_told_to_nobody(short_folder: Path) -> None:
    """Pulled from one repository and given another's name on both hosts: it never came from there."""
    image = fresh()
    async with running(short_folder, "503", "--stale-private={registry}") as bed:
        *holders, newest = bed.hosts
        name = await held(bed, "503", "public/source", image, *holders)
        await together(host.name_again(name, name.replace("source", "built")) for host in holders)
        await bed.known(dict.fromkeys(holders, 1), dict.fromkeys(holders, 1))
        await bed.fail()
        assert (await newest.pull(name)).how == "pulled"
        assert (await newest.pull(name.replace("source", "built"))).how == "failed"


@pytest.mark.matrix
async def test_the_table_of_the_documentation_is_what_happens(short_folder: Path) -> None:
    cells: dict[Cell, Outcome] = {}
    async with origin_bed(short_folder / "table", VERSIONS, list(STATES)) as bed:
        for tags in TAGS:
            cells |= await tried(bed, tags)
    document = DOCUMENT.read_text()
    true = spliced(document, rendered(cells))
    if os.environ.get(WRITE):
        DOCUMENT.write_text(true)
        return
    assert document == true, f"{WRITE}=1 rewrites it"
