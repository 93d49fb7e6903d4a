"""The cases of the origin matrix as data, what is expected of each, and the run that tries them all side by side.

A case is one pull. All that may be tried at one moment is tried at one moment: first without a mirror (these are the
words and the seconds that the others are compared with), then with daemons, then with the daemons ended, then with
daemons started again. Each pull has an image of its own, since a host fetches nothing twice. Its image is on the two
hosts of other versions before its origin begins to fail, unless the case is that no peer has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Final, Literal

from tests.support.oci_image import Image, build_image
from tests.support.origin_bed import (
    FAULTS,
    Fault,
    FaultyOrigin,
    OriginBed,
    by_digest,
    by_tag,
    together,
    words,
)
from tests.support.origin_host import (
    DROPPED_DEADLINE_S,
    HANG_S,
    PASSWORD,
    PULL_DEADLINE_S,
    PULLS_AT_ONCE,
    OriginHost,
    Outcome,
    Told,
)

Daemon = Literal["none", "alive", "alone", "walled", "dead", "restarted"]
By = Literal["tag", "digest"]
# public: anybody's image. private: pulled with its pull secret. stranger: a private image, pulled without. expired: a
# public image, pulled with a pull secret that the registry no longer takes. protected: as stranger, and named by
# --protect. neighbour: as stranger, on a host where another pod's pull secret brought the image.
Who = Literal["public", "private", "stranger", "expired", "protected", "neighbour"]
# How a pull ends: well, with the words that are read without a mirror, with other words, or not at all.
Expected = Literal["pulled", "the origin's", "not found", "our address", "hangs"]

PRIVATE: Final = ("private", "stranger", "protected", "neighbour")
NEWEST: Final = "2.1"
_SEEDS: Final = count(700_000)


@dataclass(frozen=True, slots=True)
class Case:
    version: str
    daemon: Daemon
    fault: Fault
    by: By
    who: Who

    def __str__(self) -> str:
        return f"{self.version}-{self.daemon}-{self.fault}-{self.by}-{self.who}"

    @property
    def is_held(self) -> bool:
        """Two other hosts have the image."""
        return self.daemon in ("alive", "walled", "restarted")

    @property
    def without_mirror(self) -> Case:
        return replace(self, daemon="none")

    @property
    def is_well(self) -> bool:
        """The origin gives this host what it asks for."""
        return self.fault in ("ok", "basic", "slow") and self.who in ("public", "private")

    @property
    def has_status(self) -> bool:
        """The error without a mirror is an answer of the origin: containerd 2.1 ranks it above what other hosts say. A
        demand for Basic credentials that it has not got is none."""
        return self.fault not in ("basic", "realm", "reset", "refused", "dropped")


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a case. `origin_count` and `daemon_count`: requests that the origin had for the image from
    containerds and from daemons, token requests left out. `told`: what the host's daemon answers to its containerd for
    the tag of a private image."""

    case: Case
    outcome: Outcome
    words: str
    origin_count: int
    daemon_count: int
    told: tuple[Told, ...] = ()
    digest: str = ""


def cases() -> Iterator[tuple[Case, bool]]:
    """Each with whether it belongs to the full matrix only."""
    whos: tuple[Who, ...] = ("public", "private", "stranger", "protected", "neighbour")
    daemons: tuple[Daemon, ...] = ("none", "alive", "alone", "walled", "dead", "restarted")
    ways: tuple[By, ...] = ("tag", "digest")
    for version, daemon, fault, way, who in product(("1.6", "1.7", NEWEST), daemons, FAULTS, ways, whos):
        if daemon == "walled" and version != NEWEST:
            continue
        if who == "neighbour" and (way == "digest" or daemon not in ("none", "alive", "restarted")):
            continue  # the content is here
        if fault == "dropped" and (
            daemon in ("alone", "walled", "restarted") or who in ("private", "protected")
        ):
            continue  # a minute and more each
        case = Case(version, daemon, fault, way, who)
        yield case, not _is_quick(case)
    for version, daemon in product(("1.6", "1.7", NEWEST), daemons):
        if daemon != "walled" or version == NEWEST:
            yield Case(version, daemon, "ok", "tag", "expired"), version != NEWEST


def _is_quick(case: Case) -> bool:
    if case.fault == "dropped" or case.daemon == "none":
        return False  # those without a mirror run with whatever is compared with them
    if case.version != NEWEST:
        smoke = case.fault in ("ok", "401", "404", "503", "refused") and case.who == "stranger"
        return smoke and case.daemon in ("alive", "dead")
    match case.daemon:
        case "alive" | "dead":
            return True
        case "restarted":
            return case.fault in ("ok", "429", "503", "refused") and case.who != "protected"
        case _:
            return case.who == "stranger"


def expected(case: Case) -> Expected:
    """The rules, for all versions, in the order in which they win."""
    if case.is_well:
        return "pulled"
    with_daemon = case.daemon not in ("none", "dead")
    if case.by == "digest":
        if case.is_held and case.who != "protected":
            # A digest is a capability, and a mirror is asked for it first.
            return "pulled"
        if case.fault == "silent":
            return "hangs"
        if case.daemon == "none":
            return "the origin's"
        if case.daemon == "dead":
            # The first host's error wins; from 2.1 on an origin's status does.
            is_hidden = case.version != NEWEST or not case.has_status
            return "our address" if is_hidden else "the origin's"
        is_hidden = case.version == NEWEST and not case.has_status
        return "not found" if is_hidden else "the origin's"
    if case.fault == "silent":
        # containerd waits for its origin; nobody else is asked.
        return "hangs"
    # The fallback host is asked for tags from 2.1 on.
    if case.version != NEWEST or not with_daemon:
        return "the origin's"
    if case.who == "expired":
        # The registry shows it to anybody, and peers give it.
        return "pulled" if case.is_held and case.daemon != "walled" else "the origin's"
    # An older answer beats none where the image is public, two hosts attest it, and the registry is known to have
    # answered lately: a walled daemon never reached it.
    is_stale = case.fault in ("429", "500", "503", "reset", "refused", "dropped")
    return (
        "pulled"
        if case.who == "public" and case.is_held and is_stale and case.daemon != "walled"
        else "the origin's"
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    case: Case
    host: OriginHost
    origin: FaultyOrigin
    repository: str
    image: Image

    @property
    def name(self) -> str:
        registry = self.origin.registry.authority
        if self.case.by == "tag":
            return by_tag(registry, self.repository)
        return by_digest(registry, self.repository, self.image)

    @property
    def is_told(self) -> bool:
        """The hosts that pulled it find it public, so they tell others of their tag."""
        return self.case.who == "public" and self.case.by == "tag"

    @property
    def password(self) -> str:
        return {"private": PASSWORD, "expired": "the old pull secret"}.get(self.case.who, "")


class MatrixRun:
    """Tries the given cases, and those without a mirror that they are compared with. The bed has a host for each of the
    three versions, and the walled one behind them."""

    def __init__(self, bed: OriginBed, wanted: Iterable[Case]) -> None:
        self._bed = bed
        self._hosts = {host.version: host for host in bed.hosts if not host.is_walled}
        self._walled = next((host for host in bed.hosts if host.is_walled), None)
        self._images: dict[Case, tuple[str, Image]] = {}
        self._plans: dict[Case, _Planned] = {}
        self._rows: dict[Case, Row] = {}
        chosen = dict.fromkeys(wanted)
        for case in [*chosen, *(case.without_mirror for case in chosen)]:
            if case not in self._plans:
                self._plans[case] = self._planned(case)

    async def rows(self) -> dict[Case, Row]:
        bed = self._bed
        await bed.fail()
        await self._try("none")
        await bed.heal()
        protected = [f"--protect={registry}/protected" for registry in bed.registries]
        if any(case.daemon != "none" for case in self._plans):
            await bed.start_daemons(*protected)
            for host in bed.hosts:
                host.configure_all(bed.registries)
            await self._hold()
            await bed.fail()
            await self._try("alive", "alone", "walled")
            await bed.stop_daemons()
            await self._try("dead")
        if self._of("restarted"):
            await bed.start_daemons(*protected)
            await self._try("restarted")
        return self._rows

    def _planned(self, case: Case) -> _Planned:
        host = self._walled if case.daemon == "walled" else self._hosts[case.version]
        assert host is not None
        origin = self._bed.origins[case.fault]
        # Two hosts may pull the same.
        shared = replace(case, daemon="alive") if case.daemon == "walled" else case
        if shared not in self._images:
            repository = f"{case.who}/n{len(self._images)}"
            image = build_image(next(_SEEDS), [2_000])
            for tag in ("v0", "v1"):
                origin.registry.add(image, repository, tag, is_private=case.who in PRIVATE)
            self._images[shared] = repository, image
        return _Planned(case, host, origin, *self._images[shared])

    def _of(self, *daemons: Daemon) -> list[_Planned]:
        return [plan for plan in self._plans.values() if plan.case.daemon in daemons]

    async def _hold(self) -> None:
        """Each image that peers shall have, on two other hosts; and every public repository is known to be public, as
        the registry answered for another tag while it was well."""
        held = {plan.name: plan for plan in self._plans.values() if plan.case.is_held}
        pairs = [(plan, host) for plan in held.values() for host in self._holders(plan)]

        # The origins are in this process: asked all at once they would be late, and seem to fail.
        turns = {host: asyncio.Semaphore(PULLS_AT_ONCE) for host in self._hosts.values()}

        async def hold(plan: _Planned, host: OriginHost) -> None:
            async with turns[host]:
                await hold_now(plan, host)

        async def hold_now(plan: _Planned, host: OriginHost) -> None:
            registry = plan.origin.registry.authority
            if plan.is_told:
                # Whatever is answered: its daemon asks the registry, and finds the repository public.
                await host.ask(registry, f"{plan.repository}/manifests/v0", user_agent="containerd/2.1.0")
            password = PASSWORD if plan.case.who in PRIVATE else ""
            outcome = await host.pull(by_tag(registry, plan.repository), password=password)
            assert outcome.how == "pulled", (plan, outcome)

        async def reach(origin: FaultyOrigin, host: OriginHost) -> None:
            """So that the host's daemon knows: this registry answers."""
            told = await host.ask(
                origin.registry.authority, "no/such/manifests/v0", user_agent="containerd/2.1.0"
            )
            assert told.status in (0, 404), told

        await together(hold(plan, host) for plan, host in pairs)
        await together(
            reach(origin, host) for origin, host in product(self._bed.origins.values(), self._hosts.values())
        )
        hosts = self._hosts.values()
        counts = {host: sum(other is host for _, other in pairs) for host in hosts}
        tags = {host: sum(other is host and plan.is_told for plan, other in pairs) for host in hosts}
        await self._bed.known(counts, tags)

    def _holders(self, plan: _Planned) -> Sequence[OriginHost]:
        is_here = plan.case.who == "neighbour"
        return [host for version, host in self._hosts.items() if is_here or version != plan.case.version]

    async def _try(self, *daemons: Daemon) -> None:
        await together(self._pull(plan) for plan in self._of(*daemons))

    async def _pull(self, plan: _Planned) -> None:
        deadline_s = DROPPED_DEADLINE_S if plan.case.fault == "dropped" else PULL_DEADLINE_S
        if expected(plan.case) == "hangs":
            deadline_s = HANG_S
        since, address = len(plan.origin.registry.journal), plan.host.link.address
        mostly_waits = plan.case.fault in ("slow", "silent", "dropped")
        outcome = await plan.host.pull(
            plan.name, password=plan.password, deadline_s=deadline_s, mostly_waits=mostly_waits
        )
        self._rows[plan.case] = Row(
            plan.case,
            outcome,
            words(outcome.message, plan.name),
            plan.origin.asked(plan.repository, address, since, by_us=False),
            plan.origin.asked(plan.repository, address, since, by_us=True),
            digest=plan.image.manifest.digest,
        )
        # After the pull, so that nothing of this is counted as its own.
        if plan.case.by == "tag" and plan.case.who in PRIVATE and plan.case.daemon not in ("none", "dead"):
            await self._overhear(plan)

    async def _overhear(self, plan: _Planned) -> None:
        path = f"{plan.repository}/manifests/v1"
        registry = plan.origin.registry.authority
        told: list[Told] = []
        for method, is_fallback, version in product(("HEAD", "GET"), (True, False), ("1.7", NEWEST)):
            agent = f"containerd/{version}.0"
            asked = plan.host.ask(registry, path, method=method, is_fallback=is_fallback, user_agent=agent)
            told.append(await asked)
        self._rows[plan.case] = replace(self._rows[plan.case], told=tuple(told))
