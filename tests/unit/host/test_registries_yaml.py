"""Our endpoint put into registries.yaml: first for every registry, and whatever the user said stays said."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.host.registries_yaml import RegistriesInvalid, with_endpoint
from tests.support.examples import examples

URL = "http://127.0.0.1:29020"
FILE = "/etc/rancher/k3s/registries.yaml"
ALL = f'  "*":\n    endpoint:\n      - "{URL}"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"mirrors:\n{ALL}"),
        ("# mine", f"# mine\nmirrors:\n{ALL}"),
        ("---\nmirrors: # none yet\n", f"---\nmirrors: # none yet\n{ALL}"),
        (
            "mirrors:\n  docker.io: # hub\n    endpoint: # in order\n    - https://m.example # mine\n",
            f"mirrors:\n{ALL}"
            f'  docker.io: # hub\n    endpoint: # in order\n    - "{URL}"\n    - https://m.example # mine\n',
        ),
        (
            'mirrors:\n    docker.io:\n        endpoint: ["https://a", b]\n    quay.io:\n    x.io: {endpoint: [a]}\n',
            f'mirrors:\n    "*":\n      endpoint:\n        - "{URL}"\n'
            f'    docker.io:\n        endpoint: ["{URL}", "https://a", b]\n'
            f'    quay.io:\n      endpoint:\n        - "{URL}"\n    x.io: {{endpoint: ["{URL}", a]}}\n',
        ),
        # Only rewrites: the endpoint is the registry itself, and ours stands before it.
        (
            "mirrors:\n  docker.io:\n    rewrite:\n      '^a': b\n",
            f"mirrors:\n{ALL}  docker.io:\n    endpoint:\n      - \"{URL}\"\n    rewrite:\n      '^a': b\n",
        ),
        # What stands in configs alone would hide "*".
        (
            "# c\nconfigs:\n  reg.example:5000:\n    auth: {username: x}\n",
            f'# c\nmirrors:\n  "reg.example:5000":\n    endpoint:\n      - "{URL}"\n{ALL}'
            "configs:\n  reg.example:5000:\n    auth: {username: x}\n",
        ),
        (
            'mirrors:\n  "*":\n    endpoint:\n      - https://all.example\n',
            f'mirrors:\n  "*":\n    endpoint:\n      - "{URL}"\n      - https://all.example\n',
        ),
        # Nobody else can pull by such a name.
        (
            "mirrors:\n  localhost:5000:\n    endpoint:\n      - http://localhost:5000\n",
            f"mirrors:\n{ALL}  localhost:5000:\n    endpoint:\n      - http://localhost:5000\n",
        ),
    ],
)
def test_where_it_is_put(before: str, after: str) -> None:
    spliced = with_endpoint(before, URL, FILE)
    assert spliced.text == after
    assert not spliced.is_rewritten and not spliced.left
    assert with_endpoint(after, URL, FILE).text == after


@pytest.mark.parametrize("there", [URL, f"{URL}/", f"{URL}/v2"])
def test_what_is_there_is_not_written_twice(there: str) -> None:
    text = f'mirrors:\n  "*":\n    endpoint: ["{there}"]\n'
    assert with_endpoint(text, URL, FILE).text == text


def test_behind_another_it_moves_to_the_front() -> None:
    text = f'mirrors:\n  "*":\n    endpoint: ["https://a", "{URL}"]\n'
    spliced = with_endpoint(text, URL, FILE)
    assert yaml.safe_load(spliced.text)["mirrors"]["*"]["endpoint"] == [URL, "https://a"]
    assert spliced.is_rewritten


@pytest.mark.parametrize(
    "text",
    [
        "mirrors: {docker.io: {endpoint: [a]}}\n",
        "mirrors:\n  a.io:\n    endpoint: &e\n      - https://z\n  b.io:\n    endpoint: *e\n",
        "{}",
        "mirrors: {}\n",
        "mirrors:\n  docker.io:\n    endpoint: []\n",
    ],
)
def test_what_cannot_be_spliced_is_written_anew(text: str) -> None:
    spliced = with_endpoint(text, URL, FILE)
    assert spliced.is_rewritten
    mirrors = yaml.safe_load(spliced.text)["mirrors"]
    before = (yaml.safe_load(text).get("mirrors") or {}) | {"*": {}}
    assert {name: [URL, *(entry.get("endpoint") or [])] for name, entry in before.items()} == {
        name: entry["endpoint"] for name, entry in mirrors.items()
    }


def test_a_configuration_of_all_is_not_lost_for_a_mirror_of_all() -> None:
    text = "configs:\n  '*':\n    tls:\n      insecure_skip_verify: true\n"
    spliced = with_endpoint(text, URL, FILE)
    assert spliced.text == text and len(spliced.left) == 1
    # Beside a mirror of all it is lost already.
    both = f"mirrors:\n  '*':\n    endpoint:\n    - https://a\n{text}"
    assert URL in with_endpoint(both, URL, FILE).text


def test_without_a_way_to_the_registry_itself_only_those_with_endpoints_get_ours() -> None:
    text = "mirrors:\n  a.io:\n  b.io:\n    endpoint: [https://b]\nconfigs:\n  c.io:\n    auth: {}\n"
    spliced = with_endpoint(text, URL, FILE, has_default=False)
    assert yaml.safe_load(spliced.text)["mirrors"] == {"a.io": None, "b.io": {"endpoint": [URL, "https://b"]}}
    assert [one.partition(":")[0] for one in spliced.left] == ['"a.io"', '"*"']


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- a\n",
        "mirrors: [a]\n",
        "mirrors:\n  a.io: 3\n",
        "mirrors:\n  a.io:\n    endpoint: x\n",
        "a: 1\n---\nb: 2\n",
    ],
)
def test_what_k3s_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(RegistriesInvalid, match=FILE) as refused:
        with_endpoint(text, URL, FILE)
    assert "run again" in str(refused.value)


# --- Any file

NAMES = ("docker.io", "ghcr.io", "reg.example:5000", "192.0.2.7:5000", "*", "localhost:5000")
ENTRIES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "endpoint": st.lists(
                st.sampled_from(["https://a.example/v2", "b.example", "http://c:80/p"]),
                min_size=1,
                max_size=3,
                unique=True,
            ),
            "rewrite": st.just({"^(.*)$": "p/$1"}),
        },
    ).filter(bool),
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "mirrors": st.dictionaries(st.sampled_from(NAMES), ENTRIES, min_size=1, max_size=4),
        "configs": st.dictionaries(
            st.sampled_from(NAMES),
            st.just({"auth": {"username": "u", "password": "p: #"}}),
            min_size=1,
            max_size=3,
        ),
    },
)


@settings(max_examples=examples(200), deadline=None)
@given(DOCUMENTS, st.sampled_from([2, 4]), st.booleans(), st.booleans())
def test_of_any_file_only_endpoints_are_added(
    document: dict[str, Any], indent: int, comments: bool, has_default: bool
) -> None:
    # As people write it: nothing, not "null".
    text = (
        yaml.safe_dump(document, indent=indent, sort_keys=False).replace(" null\n", "\n") if document else ""
    )
    if comments:
        text = "".join(f"{line} # c{number}\n" for number, line in enumerate(text.splitlines()))
    spliced = with_endpoint(text, URL, FILE, has_default=has_default)
    after = yaml.safe_load(spliced.text) or {}
    assert after.get("configs") == document.get("configs")
    before = document.get("mirrors", {})
    for name, entry in after.get("mirrors", {}).items():
        was = before.get(name) or {}
        endpoints = (entry or {}).get("endpoint", [])
        assert [one for one in endpoints if one != URL] == was.get("endpoint", [])
        assert endpoints[:1] == [URL] or entry == before[name]
        assert (entry or {}).get("rewrite") == was.get("rewrite")
        assert has_default or name in before
    assert before.keys() <= after.get("mirrors", {}).keys()
    assert not spliced.is_rewritten and all(line in spliced.text for line in text.splitlines())
    assert with_endpoint(spliced.text, URL, FILE, has_default=has_default).text == spliced.text
