"""What is printed: a few lines for people, or the document of --json. Pure.

The document is described in docs/doctor.md. Keys are added, never changed, within one `schema`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mirror.doctor.facts import Facts
from mirror.doctor.finding import Finding, Level

SCHEMA = 1


class Reported(Protocol):
    """A finding about a host or a cluster."""

    @property
    def code(self) -> str: ...
    @property
    def level(self) -> Level: ...
    @property
    def what(self) -> str: ...
    @property
    def evidence(self) -> str: ...
    @property
    def mend(self) -> tuple[str, ...]: ...


def lines(facts: Facts, findings: Sequence[Finding]) -> list[str]:
    version = f" (containerd {facts.containerd.version})" if facts.containerd.version else ""
    return finding_lines(findings, version)


def finding_lines(findings: Sequence[Reported], after: str) -> list[str]:
    """The last one has how many there are, and `after`."""
    printed = []
    for finding in findings:
        printed.append(f"{finding.level} {finding.code}: {finding.what}")
        printed.append(f"    seen: {finding.evidence}")
        printed += [f"    mend: {step}" for step in finding.mend]
    problems = problem_count(findings)
    notes = len(findings) - problems
    counted = [_count(problems, "problem"), *([_count(notes, "note")] if notes else [])]
    return [*printed, f"{'healthy, ' if not problems else ''}{', '.join(counted)}{after}"]


def document(facts: Facts, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "healthy": problem_count(findings) == 0,
        "version": facts.release,
        "containerd_version": facts.containerd.version or None,
        "findings": [finding_document(finding) for finding in findings],
    }


def finding_document(finding: Reported) -> dict[str, object]:
    return {
        "code": str(finding.code),
        "level": finding.level.value,
        "what": finding.what,
        "evidence": finding.evidence,
        "mend": list(finding.mend),
    }


def problem_count(findings: Sequence[Reported]) -> int:
    return sum(finding.level is Level.PROBLEM for finding in findings)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
