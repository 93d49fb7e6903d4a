"""What the demo found out: its sums, its sentences, its JSON. Pure.

Keys of the JSON object: `ok` (true), `version`, `hosts`, `image_bytes`, `layers`, `link_bytes_per_s`; `without` and
`with`, each with `seconds` (until every host had the image), `origin_bytes` and `origin_requests` (counted by the
origin), `peer_bytes`, and `hosts`, a list of `name`, `seconds`, `origin_bytes`, `peer_bytes` (counted by each host);
`origin_bytes_factor` and `seconds_factor`, without divided by with. Seconds are measured, never calculated. A run
that failed gives `ok` (false), `version` and `error` instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.demo.plan import DemoPlan
from mirror.demo.units import bytes_text
from mirror.version import VERSION

# Milliseconds: finer would be noise.
_DIGITS = 3
_FACTOR_DIGITS = 2


@dataclass(frozen=True, slots=True)
class HostResult:
    """Body bytes that came to one host, and the time from its first request to its last commit."""

    name: str
    seconds_s: float
    origin_bytes: int
    peer_bytes: int


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """`seconds_s`: until every host had the image. `origin_bytes` and `origin_request_count` are the origin's own
    count."""

    seconds_s: float
    origin_bytes: int
    origin_request_count: int
    hosts: tuple[HostResult, ...]

    @property
    def peer_bytes(self) -> int:
        return sum(host.peer_bytes for host in self.hosts)


@dataclass(frozen=True, slots=True)
class Report:
    """Both ways, all hosts pull at the same moment."""

    plan: DemoPlan
    image_bytes: int
    layer_count: int
    direct: PhaseResult
    mirrored: PhaseResult

    @property
    def origin_bytes_factor(self) -> float:
        return self.direct.origin_bytes / max(1, self.mirrored.origin_bytes)

    @property
    def seconds_factor(self) -> float:
        return self.direct.seconds_s / max(10.0**-_DIGITS, self.mirrored.seconds_s)

    def document(self) -> dict[str, object]:
        """The JSON object, as the module's docstring has it."""
        return {
            "ok": True,
            "version": VERSION,
            "hosts": self.plan.hosts_count,
            "image_bytes": self.image_bytes,
            "layers": self.layer_count,
            "link_bytes_per_s": self.plan.link_bytes_per_s,
            "without": _phase_document(self.direct),
            "with": _phase_document(self.mirrored),
            "origin_bytes_factor": round(self.origin_bytes_factor, _FACTOR_DIGITS),
            "seconds_factor": round(self.seconds_factor, _FACTOR_DIGITS),
        }

    def sums(self) -> list[tuple[str, str, str, str]]:
        """Rows of the closing table: what, without Peili, with it, and the comparison in words."""
        direct, mirrored = self.direct, self.mirrored
        return [
            (
                "from the origin",
                bytes_text(direct.origin_bytes),
                bytes_text(mirrored.origin_bytes),
                f"{self.origin_bytes_factor:.1f} x less",
            ),
            ("from peers", bytes_text(direct.peer_bytes), bytes_text(mirrored.peer_bytes), ""),
            (
                "requests to the origin",
                str(direct.origin_request_count),
                str(mirrored.origin_request_count),
                "",
            ),
            (
                "until all hosts have it",
                f"{direct.seconds_s:.1f} s",
                f"{mirrored.seconds_s:.1f} s",
                _faster(self.seconds_factor),
            ),
        ]

    def sentences(self) -> list[str]:
        """What the numbers say and what they do not."""
        copies = self.mirrored.origin_bytes / self.image_bytes
        one_copy_s = self.image_bytes / self.plan.link_bytes_per_s
        return [
            f"All hosts together cost the origin {copies:.1f} copies of the image.",
            f"For one copy, the link alone needs {one_copy_s:.1f} s.",
            "All but that is measured; every byte was checked against its digest.",
        ]


def failure_document(error: str) -> dict[str, object]:
    return {"ok": False, "version": VERSION, "error": error}


def _faster(factor: float) -> str:
    return f"{factor:.1f} x faster" if factor >= 1 else f"{1 / factor:.1f} x slower"


def _phase_document(phase: PhaseResult) -> dict[str, object]:
    return {
        "seconds": round(phase.seconds_s, _DIGITS),
        "origin_bytes": phase.origin_bytes,
        "origin_requests": phase.origin_request_count,
        "peer_bytes": phase.peer_bytes,
        "hosts": [
            {
                "name": host.name,
                "seconds": round(host.seconds_s, _DIGITS),
                "origin_bytes": host.origin_bytes,
                "peer_bytes": host.peer_bytes,
            }
            for host in phase.hosts
        ],
    }
