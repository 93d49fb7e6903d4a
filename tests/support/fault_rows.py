"""What each fault cost, as a line of the test run's own output: copies from the origin, seconds more than one direct
pull."""

from __future__ import annotations

import sys

from tests.support.cri_pull import Pulled
from tests.support.fault_bed import Pulls


def tell(fault: str, pulls: Pulls) -> None:
    """When all pulls are over."""
    done = [task.result() for task in pulls.tasks.values() if not task.cancelled()]
    succeeded_count = sum(isinstance(outcome, Pulled) for outcome in done)
    # Of a pull that fails, too: whoever waits for it is told so late.
    added_s = max(outcome.took_s for outcome in done) - pulls.bed.direct_s
    say(
        f"{fault}: {succeeded_count} of {len(done)} pulls succeeded, {pulls.copies:.2f} copies from the origin, "
        f"{added_s:+.1f} s to a direct pull of {pulls.bed.direct_s:.1f} s"
    )


def say(line: str) -> None:
    """Past pytest's capture, which shows the output of failed tests only."""
    print(line, file=sys.__stderr__, flush=True)
