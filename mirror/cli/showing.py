"""How a command shows what it was told: as a table of rich on a terminal, as plain text in columns elsewhere.

Names come from other hosts and from whoever pulled an image: what is no printable character is shown as a question
mark, so that nobody's name can move a cursor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

_GAP = "  "


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """`right`: columns of numbers."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _show_rich(columns, clean, right)
        return
    for line in lines_of(columns, clean, right):
        click.echo(line)


def lines_of(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> list[str]:
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    return [
        _GAP.join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in [columns, *rows]
    ]


def printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


def bytes_text(count_bytes: int) -> str:
    """In the unit that leaves at most four digits before the point."""
    size, unit = float(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count_bytes} B" if unit == "B" else f"{size:.1f} {unit}"


def _show_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console  # only for people
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # Text: brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)
