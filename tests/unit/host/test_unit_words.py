"""What is written into a unit is read back by the rules of systemd.syntax(7) and systemd.service(5).

The reader here is written from those pages; tests/integration/test_systemd_real.py has systemd itself read the same.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.host.errors import HostError
from mirror.host.unit_words import assignment, bound_path, command_line, path, unit_name, whole_path
from tests.support.examples import examples

_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " ", '"': '"', "'": "'", "\\": "\\"}


def words(line: str, *, knows_escapes: bool) -> list[str]:
    """Split, unquoted, and with specifiers resolved; one that is not `%%` is an error. Without `knows_escapes` (lists
    of paths) a backslash only takes its meaning from the next character."""
    assert "\n" not in line and not line.endswith("\\"), "the line would go on"
    found: list[str] = []
    word: str | None = None
    quote = ""
    rest = iter(line)
    for char in rest:
        if char == "\\":
            escaped = next(rest)
            if not knows_escapes:
                word = (word or "") + escaped
            elif escaped == "x":
                word = (word or "") + chr(int(next(rest) + next(rest), 16))
            else:
                word = (word or "") + _ESCAPED[escaped]
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            assert word is None, "a quote in a word"
            quote, word = char, ""
        elif char in " \t":
            if word is not None:
                found.append(word)
            word = None
        else:
            word = (word or "") + char
    assert not quote
    if word is not None:
        found.append(word)
    return [_without(it, "%") for it in found]


def _without(word: str, sign: str) -> str:
    """Doubled signs are single ones, and no others are there."""
    parts = word.split(sign * 2)
    assert all(sign not in part for part in parts), f"{word!r} has a {sign} with a meaning"
    return sign.join(parts)


def run_with(line: str) -> list[str]:
    """The words of a command line: of its arguments, variables are replaced as well."""
    program, *arguments = words(line, knows_escapes=True)
    return [program, *(_without(it, "$") for it in arguments)]


# Signs that some rule gives a meaning are tried more often than others.
_SIGNS = st.sampled_from("%$\\\"' \t\n\r;#@-:+!|={}[]\x01\x7f~nx4")
_TEXT = st.text(
    st.one_of(_SIGNS, st.characters(min_codepoint=1, exclude_categories=["Cs"])), max_size=20
).filter(lambda text: "\0" not in text)
_PATH = st.text(
    st.one_of(
        st.sampled_from("%$\\\"' ;#@-+=[]n/"),
        st.characters(min_codepoint=0xA0, exclude_categories=["Cs", "Cc"]),
    ),
    max_size=20,
).map(lambda text: f"/{text}")


@given(st.lists(_TEXT, max_size=5))
@settings(max_examples=examples(600))
def test_every_word_of_a_command_comes_back(arguments: list[str]) -> None:
    line = command_line(("/opt/100%/p", "-m", "a b"), arguments)
    assert run_with(line) == ["/opt/100%/p", "-m", "a b", *arguments]
    # A word that is a lone semicolon would begin another command.
    assert ";" not in line.split(" ")


@given(_TEXT)
@settings(max_examples=examples(300))
def test_every_variable_comes_back(value: str) -> None:
    assert words(assignment("NAME", value), knows_escapes=True) == [f"NAME={value}"]


@given(st.lists(_PATH, min_size=1, max_size=3))
@settings(max_examples=examples(300))
def test_every_path_of_a_list_comes_back(paths: list[str]) -> None:
    assert words(" ".join(map(path, paths)), knows_escapes=False) == paths


@given(_PATH)
@settings(max_examples=examples(300))
def test_a_path_to_the_end_of_the_line_comes_back_or_is_refused(text: str) -> None:
    try:
        written = whole_path(text)
    except HostError:
        assert text != text.strip() or text.endswith("\\")
    else:
        assert written.strip() == written and _without(written, "%") == text


def test_what_needs_no_quotes_has_none() -> None:
    assert command_line(("/usr/bin/peili",), ["serve", "--bootstrap=static:10.0.0.1:29021"]) == (
        "/usr/bin/peili serve --bootstrap=static:10.0.0.1:29021"
    )


@pytest.mark.parametrize(
    "program", ["peili", "", "./peili", "/a'b", '/a"b', "/a\\b", "/a$b", "/a\nb", "/a\udc80"]
)
def test_a_program_that_systemd_would_refuse_is_refused(program: str) -> None:
    with pytest.raises(HostError):
        command_line((program,), [])


@pytest.mark.parametrize("text", ["a\0b", "a\udcff"])
def test_a_word_that_cannot_be_said_is_refused(text: str) -> None:
    with pytest.raises(HostError):
        command_line(("/p",), [text])
    with pytest.raises(HostError):
        assignment("NAME", text)


@pytest.mark.parametrize("text", ["var/lib", "", "/a\nb", "/a\x7f", "/a\udcff", "/a\0"])
def test_a_path_that_cannot_be_said_is_refused(text: str) -> None:
    for write in (path, whole_path, bound_path):
        with pytest.raises(HostError):
            write(text)


def test_a_path_that_is_shown_has_no_colon() -> None:
    assert path("/home/a:b") == "/home/a:b"
    with pytest.raises(HostError, match="colon"):
        bound_path("/home/a:b")


@pytest.mark.parametrize(
    "name", ["containerd", "a b.service", "", "../x.service", "x.service\n", "x.scope.d"]
)
def test_what_is_no_unit_is_refused(name: str) -> None:
    with pytest.raises(HostError):
        unit_name(name)


@pytest.mark.parametrize("name", ["k3s.service", "snap.microk8s.daemon-containerd.service", "a@b.service"])
def test_units_have_their_names(name: str) -> None:
    assert unit_name(name) == name
