"""What is printed of a cluster: some lines for people, or the document of --json. Pure.

The document is described in docs/doctor.md. Keys are added, never changed, within one `schema`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterFinding, counted
from mirror.doctor.report import finding_document, finding_lines, problem_count

SCHEMA = 1


def lines(facts: ClusterFacts, findings: Sequence[ClusterFinding]) -> list[str]:
    where = (
        f"; {len(facts.told())} of {counted(len(facts.pods), 'daemon')} answered" if facts.daemonset else ""
    )
    return finding_lines(findings, where)


def document(facts: ClusterFacts, findings: Sequence[ClusterFinding]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "healthy": problem_count(findings) == 0,
        "version": facts.release,
        "namespace": facts.namespace or None,
        "daemonset": facts.name or None,
        "nodes": len(facts.nodes),
        "pods": len(facts.pods),
        "answered": len(facts.told()),
        "findings": [{**finding_document(one), "hosts": list(one.hosts)} for one in findings],
    }
