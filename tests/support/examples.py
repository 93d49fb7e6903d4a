"""How many examples a property is tried with, or steps of a row: all in `make test-all`, a third in `make test`."""

from __future__ import annotations

import os

# Set by the Makefile.
THOROUGH = "TEST_THOROUGH"


def examples(count: int) -> int:
    return count if os.environ.get(THOROUGH) else max(1, count // 3)


def stride() -> int:
    """From one step that is tried to the next."""
    return 1 if os.environ.get(THOROUGH) else 3
