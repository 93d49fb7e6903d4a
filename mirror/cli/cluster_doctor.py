"""`peili doctor --cluster`: looks at a cluster through its API, and prints what it found. On a workstation: what it
needs, the package kubernetes, is an extra, and not in the daemon's image."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Final

import click

from mirror.errors import MirrorError

EXTRA: Final = "peili[kubernetes]"


class ExtraMissing(MirrorError):
    """A package is not installed."""


@dataclass(frozen=True, slots=True)
class ClusterFlags:
    """As given; None: not."""

    context: str | None
    kubeconfig: str | None
    namespace: str | None
    release: str | None


def run_cluster(flags: ClusterFlags, *, as_json: bool) -> bool:
    """Whether there is a problem. Raises: ExtraMissing, ApiUnheard, SettingsError."""
    try:
        from mirror.doctor.cluster.api import opened  # a second of import
    except ModuleNotFoundError as exc:
        raise ExtraMissing(
            f"--cluster needs the package {(exc.name or 'kubernetes').partition('.')[0]}, which is not installed: "
            f"install {EXTRA}; in a checkout: requirements/venv.sh cluster"
        ) from exc
    from mirror.doctor.cluster import report
    from mirror.doctor.cluster.diagnosis import diagnose
    from mirror.doctor.cluster.facts import ClusterFacts
    from mirror.doctor.cluster.gather import ClusterAsked, gather
    from mirror.doctor.report import problem_count

    async def look() -> ClusterFacts:
        async with opened(flags.kubeconfig, flags.context) as api:
            return await gather(api, ClusterAsked(flags.namespace or "", flags.release or ""))

    facts = asyncio.run(look())
    findings = diagnose(facts)
    if as_json:
        click.echo(json.dumps(report.document(facts, findings), ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines(facts, findings)))
    return problem_count(findings) > 0
