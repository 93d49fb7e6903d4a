"""Which shell commands a page of the documentation tells its reader to run, as he would copy them.

Pure: text in, commands out. It runs nothing and judges nothing. A command stands in an indented block, in a fenced one
that is of no language or of the shell, or between backquotes where it begins with one of `PROGRAMS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

# What is named in a sentence is a command where it begins so; blocks need no such list.
PROGRAMS: Final = frozenset(
    {
        *(
            "make",
            "peili",
            ".venv/bin/peili",
            ".venv/bin/python",
            "python",
            "python3",
            "requirements/venv.sh",
        ),
        *(
            "helm",
            "kubectl",
            "containerd",
            "ctr",
            "crictl",
            "skopeo",
            "docker",
            "podman",
            "nerdctl",
            "systemctl",
        ),
        *("apt-get", "base64", "curl", "git", "head", "pip", "sh", "sudo"),
    }
)
_SHELLS: Final = frozenset({"", "sh", "bash", "shell", "console"})
_FENCE: Final = re.compile(r" {0,3}```+\s*(?P<language>[^`]*)$")
_ITEM: Final = re.compile(r" {0,3}(?:[*+-]|\d+[.)])\s")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*\s+")
_INDENT: Final = "    "
_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
Kind = Literal["block", "prose"]


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a page that belong together. `line_number`: of the first, from 1."""

    kind: Kind
    line_number: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    line_number: int


def parts(page: str) -> Iterator[Part]:
    """Blocks without their indentation or fence, and paragraphs; fences of other languages are left out."""
    lines = page.splitlines()
    at = 0
    after_item = False
    while at < len(lines):
        start = at
        if fence := _FENCE.match(lines[at]):
            at += 1
            while at < len(lines) and not lines[at].lstrip().startswith("```"):
                at += 1
            if fence["language"].strip() in _SHELLS:
                yield Part("block", start + 2, tuple(lines[start + 1 : at]))
            at += 1
            after_item = False
        elif lines[at].startswith(_INDENT) and not after_item:
            while at < len(lines) and lines[at].startswith(_INDENT):
                at += 1
            yield Part("block", start + 1, tuple(line.removeprefix(_INDENT) for line in lines[start:at]))
        elif lines[at].startswith("|"):
            at += 1
            yield Part("prose", start + 1, (lines[start],))  # nothing of a table goes over its line
        elif lines[at].strip():
            while (
                at < len(lines) and lines[at].strip() and not _FENCE.match(lines[at]) and lines[at][0] != "|"
            ):
                at += 1
            after_item = any(_ITEM.match(line) for line in lines[start:at]) or (
                after_item and lines[start].startswith(" ")
            )
            yield Part("prose", start + 1, tuple(lines[start:at]))
        else:
            at += 1


def commands(page: str, not_commands: frozenset[str] = frozenset()) -> Iterator[Command]:
    """In the order of the page. `not_commands`: first lines of blocks that hold something else."""
    for part in parts(page):
        if part.kind == "prose":
            yield from _in_prose(part)
        elif part.lines and part.lines[0] not in not_commands:
            yield from _in_block(part)


def _in_block(part: Part) -> Iterator[Command]:
    whole = ""
    start = part.line_number
    for number, line in enumerate(part.lines, part.line_number):
        start = start if whole else number
        bare = without_comment(line).removeprefix("$ ")
        if bare.endswith("\\"):
            whole += bare[:-1].strip() + " "
            continue
        whole += bare.strip()
        if whole:
            yield Command(whole, start)
        whole = ""
    if whole:
        yield Command(whole.strip(), start)


def _in_prose(part: Part) -> Iterator[Command]:
    text = "\n".join(part.lines)
    for span in _SPAN.finditer(text):
        inside = " ".join(span[2].split())
        if part.lines[0].startswith("|"):
            inside = inside.replace("\\|", "|")  # a table's own escape
        program, _, arguments = _ASSIGNMENT.sub("", inside).partition(" ")
        if program in PROGRAMS and arguments:
            yield Command(inside, part.line_number + text.count("\n", 0, span.start()))


def without_comment(line: str) -> str:
    """What the shell would take for a comment is left out: ` #` outside of quotes."""
    quote = ""
    for index, character in enumerate(line):
        if quote:
            quote = "" if character == quote and line[index - 1] != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (index == 0 or line[index - 1].isspace()):
            return line[:index].rstrip()
    return line.rstrip()
