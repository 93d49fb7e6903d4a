"""All checks, in the order in which one would mend: what is below may follow from what is above. Pure."""

from __future__ import annotations

from mirror.doctor.containerd_checks import check as of_containerd
from mirror.doctor.daemon_checks import check as of_daemon
from mirror.doctor.facts import Facts
from mirror.doctor.finding import Finding, Level
from mirror.doctor.hosts_checks import check as of_hosts
from mirror.doctor.listener_checks import check as of_listeners


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Problems first."""
    checks = (of_containerd, of_hosts, of_listeners, of_daemon)
    found = [finding for check in checks for finding in check(facts)]
    return tuple(sorted(found, key=lambda finding: finding.level is Level.NOTE))
