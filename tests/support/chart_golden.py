"""What the chart renders for the values in tests/chart/values, kept in tests/chart/golden so that a diff shows it.

`python -m tests.support.chart_golden` writes the files. The secret that a render makes is new each time; its place is
marked.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.helm_chart import CASES, REPOSITORY, template

GOLDEN: Final = REPOSITORY / "tests" / "chart" / "golden"
_MADE: Final = re.compile(r"^(kind: Secret\n(?:.*\n)*?data:\n  [^:\n]+: )([A-Za-z0-9+/=]{60})$", re.MULTILINE)


def cases() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def golden_text(case: str, home: Path, major: int = 4) -> str:
    text = template(major, home, CASES / f"{case}.yaml")
    return _MADE.sub(r"\1MADE", text)


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        for case in cases():
            (GOLDEN / f"{case}.yaml").write_text(golden_text(case, Path(home)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
