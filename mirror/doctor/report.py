"""What is printed: a few lines for people, or the document of --json. Pure.

The document is described in docs/doctor.md. Keys are added, never changed, within one `schema`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.doctor.facts import Facts
from mirror.doctor.finding import Finding, Level

SCHEMA = 1


def lines(facts: Facts, findings: Sequence[Finding]) -> list[str]:
    printed = []
    for finding in findings:
        printed.append(f"{finding.level.value} {finding.code.value}: {finding.what}")
        printed.append(f"    seen: {finding.evidence}")
        printed += [f"    mend: {step}" for step in finding.mend]
    problems = problem_count(findings)
    notes = len(findings) - problems
    counted = [_count(problems, "problem"), *([_count(notes, "note")] if notes else [])]
    version = f" (containerd {facts.containerd.version})" if facts.containerd.version else ""
    return [*printed, f"{'healthy, ' if not problems else ''}{', '.join(counted)}{version}"]


def document(facts: Facts, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "healthy": problem_count(findings) == 0,
        "version": facts.release,
        "containerd_version": facts.containerd.version or None,
        "findings": [
            {
                "code": finding.code.value,
                "level": finding.level.value,
                "what": finding.what,
                "evidence": finding.evidence,
                "mend": list(finding.mend),
            }
            for finding in findings
        ],
    }


def problem_count(findings: Sequence[Finding]) -> int:
    return sum(finding.level is Level.PROBLEM for finding in findings)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
