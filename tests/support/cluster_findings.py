"""What doctor makes of a ClusterPlan: facts gathered from the plan's API in memory, and the findings."""

from __future__ import annotations

import asyncio

from mirror.doctor.cluster.diagnosis import diagnose
from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterFinding
from mirror.doctor.cluster.gather import ClusterAsked, gather
from tests.support.cluster_plan import ClusterPlan
from tests.support.plan_api import PlanApi


def seen(plan: ClusterPlan, **api: object) -> ClusterFacts:
    """`api`: as PlanApi takes it."""
    return asyncio.run(gather(PlanApi(plan, **api), ClusterAsked()))  # type: ignore[arg-type]


def found(plan: ClusterPlan, **api: object) -> tuple[ClusterFinding, ...]:
    return diagnose(seen(plan, **api))


def alone(plan: ClusterPlan) -> ClusterFinding:
    """The one finding that there is."""
    (only,) = found(plan)
    return only
