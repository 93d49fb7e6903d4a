"""How many examples a property is tried with: all in `make test-all`, a third in `make test`."""

from __future__ import annotations

import os

# Set by the Makefile.
THOROUGH = "TEST_THOROUGH"


def examples(count: int) -> int:
    return count if os.environ.get(THOROUGH) else max(1, count // 3)
