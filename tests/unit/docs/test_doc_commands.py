"""Which lines of a page are taken for commands."""

from __future__ import annotations

import pytest

from tests.support.doc_commands import commands, without_comment


def found(page: str, *not_commands: str) -> list[tuple[str, int]]:
    return [(it.text, it.line_number) for it in commands(page, frozenset(not_commands))]


def test_an_indented_block_is_commands_line_by_line() -> None:
    page = "# Head\n\nDo this:\n\n    make demo\n    make test   # minutes\n\nDone.\n"
    assert found(page) == [("make demo", 5), ("make test", 6)]


def test_a_continued_line_is_one_command_and_may_carry_a_comment_at_its_end() -> None:
    page = "x\n\n    peili serve --a b \\\n        --c d     # any\n    next\n"
    assert found(page) == [("peili serve --a b --c d", 3), ("next", 5)]


def test_a_continuation_into_nothing_is_still_seen() -> None:
    assert found("x\n\n    make a \\\n") == [("make a", 3)]


def test_a_program_that_nobody_listed_is_a_command_in_a_block() -> None:
    assert found("x\n\n    frobnicate --now\n") == [("frobnicate --now", 3)]


@pytest.mark.parametrize("language", ["", "sh", "bash", "console"])
def test_a_fence_of_the_shell_is_commands(language: str) -> None:
    assert found(f"x\n```{language}\n$ make a\n```\n`make b`\n") == [("make a", 3), ("make b", 5)]


def test_a_fence_of_another_language_is_none() -> None:
    assert found('```toml\nserver = "a"  # `make a`\n    make b\n```\n') == []


def test_a_block_of_something_else_is_left_out_by_its_first_line() -> None:
    page = "x\n\n    key = 1\n    tag = 2\n\ny\n\n    key2 = 1\n"
    assert found(page, "key = 1") == [("key2 = 1", 8)]


@pytest.mark.parametrize(
    ("prose", "text"),
    [
        ("Run `make docs`.", ["make docs"]),
        ("Run `A=b,c make test` or `make`.", ["A=b,c make test"]),
        ("See `kubectl -n a logs\nb` there.", ["kubectl -n a logs b"]),
        ("<!-- t -->\n| a | `head x \\| base64` |", ["head x | base64"]),
        ("`config_path` and `peilix serve`, ``x ` make a``", []),
        ("a\n| ` |\n| `make docs` |", ["make docs"]),
        ("* an item\n\n    that goes on, `make docs`", ["make docs"]),
    ],
)
def test_between_backquotes_the_first_word_decides(prose: str, text: list[str]) -> None:
    assert [it for it, _ in found(prose)] == text


def test_a_command_in_a_sentence_has_the_line_where_it_begins() -> None:
    assert found("first\nsecond `make\na`\n") == [("make a", 2)]


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("make a # b", "make a"),
        ("# all", ""),
        ("curl a#b", "curl a#b"),
        ("echo 'a # b' # c", "echo 'a # b'"),
        ('echo "a \\" # b"', 'echo "a \\" # b"'),
    ],
)
def test_a_comment_is_what_the_shell_takes_for_one(line: str, bare: str) -> None:
    assert without_comment(line) == bare
