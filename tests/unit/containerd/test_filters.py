"""Filter expressions: what they look like, and that no value can change their meaning.

The conformance suite shows real containerd the same kind of values.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd import filters
from tests.support.containerd_filters import Selector, parse

TEXT = st.text(st.characters(codec="utf-8"))
FIELDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (filters.equals("name", value="reg.test/a:v1"), 'name=="reg.test/a:v1"'),
        (filters.equals("target", "digest", value="sha256:0"), 'target.digest=="sha256:0"'),
        (filters.equals("labels", "a.b/c", value=""), 'labels."a.b/c"==""'),
        (filters.matches("topic", regex="^/(images|content)/"), 'topic~="^/(images|content)/"'),
        (filters.matches("topic", regex=r"a\.b"), r'topic~="a\\.b"'),
        (filters.present("labels", "x"), "labels.x"),
        (filters.present("labels", 'a"b\\c\n'), r'labels."a\"b\\c\u000a"'),
        (filters.all_of("a", "b==c"), "a,b==c"),
    ],
)
def test_table(built: str, expected: str) -> None:
    assert built == expected


@given(FIELDS, TEXT)
def test_whatever_the_text_one_selector_comes_out(path: list[str], text: str) -> None:
    assert parse(filters.equals(*path, value=text)) == [Selector(tuple(path), "==", text)]
    assert parse(filters.matches(*path, regex=text)) == [Selector(tuple(path), "~=", text)]
    assert parse(filters.present(*path)) == [Selector(tuple(path), "", "")]


@given(st.lists(st.tuples(FIELDS, TEXT), min_size=1, max_size=4))
def test_joined_selectors_stay_apart(parts: list[tuple[list[str], str]]) -> None:
    joined = filters.all_of(*(filters.equals(*path, value=text) for path, text in parts))
    assert parse(joined) == [Selector(tuple(path), "==", text) for path, text in parts]


@pytest.mark.parametrize("path", [(), ("",), ("labels", "")])
def test_a_path_without_fields_is_our_mistake(path: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="field path"):
        filters.present(*path)


def test_no_filter_is_not_everything() -> None:
    with pytest.raises(ValueError, match="no filters"):
        filters.all_of()
