"""All checks of a cluster, in the order in which one would mend: what is below may follow from what is above. Pure."""

from __future__ import annotations

from mirror.doctor.cluster.agreement_checks import check as of_agreement
from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterCode, ClusterFinding, finding, listed
from mirror.doctor.cluster.host_checks import check as of_hosts
from mirror.doctor.cluster.network_checks import check as of_network
from mirror.doctor.cluster.node_checks import check as of_nodes
from mirror.doctor.cluster.pod_checks import check as of_pods
from mirror.doctor.finding import Level


def diagnose(facts: ClusterFacts) -> tuple[ClusterFinding, ...]:
    """Problems first."""
    checks = (of_pods, of_nodes, of_network, of_agreement)
    found = [one for check in checks for one in check(facts)]
    found += of_hosts(facts, found)
    if facts.unseen:
        found.append(
            finding(
                ClusterCode.NOT_SEEN,
                f"the API did not show {listed(one.what for one in facts.unseen)}: checks of them are left out",
                "; ".join(dict.fromkeys(one.why for one in facts.unseen)),
                "if it is a right that lacks: docs/doctor.md, Rights",
            )
        )
    return tuple(sorted(found, key=lambda one: one.level is Level.NOTE))
