"""What is printed of a cluster: some lines for people, or the document of --json. Pure.

The document is described in docs/doctor.md. Keys are added, never changed, within one `schema`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterFinding, counted
from mirror.doctor.finding import Level

SCHEMA = 1


def lines(facts: ClusterFacts, findings: Sequence[ClusterFinding]) -> list[str]:
    printed = []
    for one in findings:
        printed.append(f"{one.level.value} {one.code}: {one.what}")
        printed.append(f"    seen: {one.evidence}")
        printed += [f"    mend: {step}" for step in one.mend]
    problems = problem_count(findings)
    notes = len(findings) - problems
    totals = [counted(problems, "problem") if problems else "no problems"]
    totals += [counted(notes, "note")] if notes else []
    where = (
        f"; {len(facts.told())} of {counted(len(facts.pods), 'daemon')} answered" if facts.daemonset else ""
    )
    return [*printed, f"{'' if problems else 'healthy, '}{', '.join(totals)}{where}"]


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
        "findings": [
            {
                "code": one.code,
                "level": one.level.value,
                "what": one.what,
                "evidence": one.evidence,
                "mend": list(one.mend),
                "hosts": list(one.hosts),
            }
            for one in findings
        ],
    }


def problem_count(findings: Sequence[ClusterFinding]) -> int:
    return sum(one.level is Level.PROBLEM for one in findings)
