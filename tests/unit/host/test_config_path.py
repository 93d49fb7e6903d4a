"""config_path put into containerd's config.toml: all else stays, byte for byte, however the file is written."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.host.config_path import Unspliceable, file_version, with_config_path
from tests.support.examples import examples

DIR = "/etc/containerd/certs.d"
FILE = "/etc/containerd/config.toml"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
IMAGES = "plugins.'io.containerd.cri.v1.images'"
LINE = f'  config_path = "{DIR}"\n'
V1, V2 = (1, 7), (2, 1)


@pytest.mark.parametrize(
    ("release", "before", "after"),
    [
        # There is no file, or nothing in it.
        (V1, "", f"version = 2\n\n[{CRI}.registry]\n{LINE}"),
        (V2, "", f'version = 3\n\n[plugins."io.containerd.cri.v1.images".registry]\n{LINE}'),
        (V1, "# mine\n", f"# mine\nversion = 2\n\n[{CRI}.registry]\n{LINE}"),
        # Set, in the ways that it can be.
        (
            V1,
            f"version = 2\n[{CRI}.registry] # r\n\tconfig_path = '' # none\n[a]\n",
            f'version = 2\n[{CRI}.registry] # r\n\tconfig_path = "{DIR}" # none\n[a]\n',
        ),
        (
            V1,
            f'version = 2\n{CRI}.registry.config_path=""',
            f'version = 2\n{CRI}.registry.config_path="{DIR}"',
        ),
        (
            V1,
            f'version = 2\n[{CRI}]\n  registry."config_path" = "/x"\n',
            f'version = 2\n[{CRI}]\n  registry."config_path" = "{DIR}"\n',
        ),
        # A table without it: directly below its header, also where others are in it.
        (
            V2,
            f"version = 3\n  [{IMAGES}.registry]\n    # about it\n[{IMAGES}.registry.configs.'x.io'.auth]\na = 1\n",
            f"version = 3\n  [{IMAGES}.registry]\n  {LINE}    # about it\n"
            f"[{IMAGES}.registry.configs.'x.io'.auth]\na = 1\n",
        ),
        (V1, f"version = 2\n[{CRI}.registry]", f"version = 2\n[{CRI}.registry]\n{LINE}"),
        (
            V1,
            f"version = 2\n[{CRI}]\n\n registry.x = 1\n",
            f'version = 2\n[{CRI}]\n\n registry.config_path = "{DIR}"\n registry.x = 1\n',
        ),
        # No table: at the end, with the name that counts there.
        (
            V1,
            f"version = 2\n[{CRI}.registry.configs.a.auth]\nx = 1",
            f"version = 2\n[{CRI}.registry.configs.a.auth]\nx = 1\n\n[{CRI}.registry]\n{LINE}",
        ),
        (V1, "oom_score = 1\n", f"oom_score = 1\n\n[plugins.cri.registry]\n{LINE}"),
        (
            V2,
            "oom_score = 1\n",
            f'oom_score = 1\n\n[plugins."io.containerd.cri.v1.images".registry]\n{LINE}',
        ),
        # 1.x overlooks a table of version 2 in a file that says no version, and it stays so.
        (
            V1,
            f'[{CRI}.registry]\nconfig_path = "/x"\n',
            f'[{CRI}.registry]\nconfig_path = "/x"\n\n[plugins.cri.registry]\n{LINE}',
        ),
        (V2, "version = 2\n", f"version = 2\n\n[{CRI}.registry]\n{LINE}"),
        (
            V2,
            f"version = 2\n[{IMAGES}.registry]\nconfig_path = ''\n",
            f'version = 2\n[{IMAGES}.registry]\nconfig_path = "{DIR}"\n',
        ),
        # Line ends of another system.
        (
            V1,
            f"version = 2\r\n[{CRI}.registry]\r\n",
            f'version = 2\r\n[{CRI}.registry]\r\n  config_path = "{DIR}"\r\n',
        ),
    ],
)
def test_where_it_is_put(release: tuple[int, int], before: str, after: str) -> None:
    result = with_config_path(before, DIR, release, FILE)
    assert result == after
    # And nothing happens twice.
    assert with_config_path(result, DIR, release, FILE) == result


def test_an_imported_file_is_read_in_the_version_of_the_main_one() -> None:
    assert with_config_path("# none\n", DIR, V1, FILE, main_version=2).startswith("# none\n\n[plugins.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= 3", "not TOML"),
        ("version = 2\nplugins = 3\n", "config_path ="),
        (f"version = 2\n[{CRI}]\nregistry = {{ config_path = '' }}\n", "config_path ="),
        (f"version = 2\n[{CRI}]\nregistry = {{ }}\n", "config_path ="),
        (f"version = 2\n[{CRI}.registry]\nconfig_path = '''\n'''\n", "config_path ="),
        (f"version = 2\n[[{CRI}.registry]]\n", "config_path ="),
    ],
)
def test_what_is_not_understood_is_left_to_its_author(text: str, said: str) -> None:
    with pytest.raises(Unspliceable, match=said) as refused:
        with_config_path(text, DIR, V1, FILE)
    assert FILE in str(refused.value) and "run again" in str(refused.value)


@pytest.mark.parametrize(("text", "version"), [("version = 2", 2), ("", 1), ("= 3", 1), ("version = 'x'", 1)])
def test_the_version_of_a_file(text: str, version: int) -> None:
    assert file_version(text) == version


# --- Any file

KEYS = st.sampled_from(["root", "state", "x", "a-b", "config_path", '"quoted key"', "'sock.et'"])
PATHS = st.sampled_from(['""', "''", '"/a:/b"', "'/etc/x # y'"])
VALUES = st.sampled_from(
    [
        "1",
        "true",
        '"text # no comment"',
        "'[not.a.table]'",
        "[1, 2]",
        '["a", # why\n  "b",\n]',
        '"""\n[x]\n"""',
    ]
)
COMMENTS = st.sampled_from(["", "  # why", " # [plugins.cri.registry]", ' # config_path = ""'])
GAPS = st.sampled_from(["", "\n", "# a line\n", "  \n# config_path = 'x'\n"])
TABLES = (
    "grpc",
    "debug",
    "plugins",
    "plugins.cri",
    "plugins.cri.registry",
    CRI,
    f"{CRI}.registry",
    f"{CRI}.registry.configs.'x.io'.auth",
    IMAGES,
    f"{IMAGES}.registry",
    f"{CRI}.containerd.runtimes.runc",
)


@st.composite
def configs(draw: st.DrawFn) -> str:
    def statements() -> str:
        keys = draw(st.lists(KEYS, unique=True, max_size=3))
        values = {key: draw(PATHS if key == "config_path" else VALUES) for key in keys}
        return "".join(f"{draw(GAPS)}{key} = {values[key]}{draw(COMMENTS)}\n" for key in keys)

    version = draw(st.sampled_from(["", "version = 1\n", "version = 2 # v\n", "version = 3\n"]))
    parts = [draw(GAPS), version, statements()]
    for table in draw(st.lists(st.sampled_from(TABLES), unique=True, max_size=6)):
        parts += [f"{draw(st.sampled_from(['', '  ']))}[{table}]{draw(COMMENTS)}\n", statements()]
    text = "".join(parts)
    return text if draw(st.booleans()) else text.rstrip("\n")


def without_config_path(text: str) -> Any:
    """What a text says, but for config_path and the version, and tables that are empty then."""
    document = deepcopy(tomllib.loads(text))
    document.pop("version", None)
    plugins = document.get("plugins", {})
    for name in ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"):
        registry = plugins.get(name, {}).get("registry")
        if isinstance(registry, dict):
            registry.pop("config_path", None)
            if not registry:
                del plugins[name]["registry"]
        if plugins.get(name) == {}:
            del plugins[name]
    if plugins == {}:
        document.pop("plugins", None)
    return document


@settings(max_examples=examples(300), deadline=None)
@given(configs(), st.sampled_from([(1, 6), (1, 7), (2, 0), (2, 1), (2, 3)]))
def test_of_any_file_only_config_path_changes(text: str, release: tuple[int, int]) -> None:
    try:
        tomllib.loads(text)
    except ValueError:
        with pytest.raises(Unspliceable):
            with_config_path(text, DIR, release, FILE)
        return
    result = with_config_path(text, DIR, release, FILE)
    assert without_config_path(result) == without_config_path(text)
    assert not tomllib.loads(text) or file_version(result) == file_version(text)
    # Every other line is still there, in its order.
    remaining = iter(result.splitlines())
    assert all(line in remaining for line in text.splitlines() if not line.lstrip().startswith("config_path"))
    assert with_config_path(result, DIR, release, FILE) == result
