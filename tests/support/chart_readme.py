"""The table of values in helm/peili/README.md, from the comments of values.yaml.

`python -m tests.support.chart_readme --write` writes it, without the flag it is printed. A comment that begins with
`# --` is what is said of the value below it; what is inside of such a value has no row of its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "peili"
BEGIN: Final = "<!-- values: written by `make docs` from values.yaml -->"
END: Final = "<!-- /values -->"
_KEY: Final = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


@dataclass(frozen=True, slots=True)
class Value:
    path: tuple[str, ...]
    about: str
    default: object


def values(text: str) -> Iterator[Value]:
    """In the order of the file."""
    parsed = yaml.safe_load(text)
    about: list[str] = []
    inside: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# --"):
            about = [bare.removeprefix("# --").strip()]
        elif bare.startswith("#"):
            if about:
                about.append(bare.removeprefix("#").strip())
        elif found := _KEY.match(line):
            inside = [*inside[: len(found["indent"]) // 2], found["key"]]
            if about:
                yield Value(tuple(inside), " ".join(about), _at(parsed, inside))
            about = []
        else:
            about = []


def _at(parsed: object, path: list[str]) -> object:
    for key in path:
        assert isinstance(parsed, dict)
        parsed = parsed[key]
    return parsed


def table(text: str) -> str:
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values(text):
        default = json.dumps(value.default).replace("|", "\\|")
        about = value.about.replace("|", "\\|")
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {about} |")
    return "\n".join(rows)


def page(chart: Path = CHART) -> str:
    """README.md with its table as it should be."""
    text = (chart / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table((chart / 'values.yaml').read_text())}\n{END}{after}"


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        (CHART / "README.md").write_text(page())
    elif not arguments:
        sys.stdout.write(page())
    else:
        sys.stderr.write("usage: python -m tests.support.chart_readme [--write]\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
