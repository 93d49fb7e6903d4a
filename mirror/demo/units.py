"""How the demo writes sizes and rates for people. Pure."""

from __future__ import annotations

_MIB_BYTES = 2**20
_KIB_BYTES = 2**10
_MEGABIT_BYTES = 125_000


def bytes_text(count_bytes: int) -> str:
    """One unit throughout, so that columns can be compared; KiB only for what would else be 0.0."""
    if 0 < count_bytes < _MIB_BYTES // 10:
        return f"{count_bytes / _KIB_BYTES:.1f} KiB"
    return f"{count_bytes / _MIB_BYTES:.1f} MiB"


def rate_text(bytes_per_s: int) -> str:
    """As links are sold."""
    megabits = bytes_per_s / _MEGABIT_BYTES
    return f"{megabits:.0f} Mbit/s" if megabits >= 10 else f"{megabits:.1f} Mbit/s"
