"""configure and cleanup on random hosts directories: what containerd would do, and that nothing is left."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerd.hosts.cleanup import cleanup
from containerd.hosts.configure import add_registry
from containerd.hosts.layout import Tags
from tests.support.containerd_hosts import Asked, hosts_asked
from tests.support.examples import examples
from tests.support.hosts_runs import (
    FALLBACK,
    MIRROR,
    NAMED,
    URL,
    memory_folder,
    run_configure,
)
from tests.support.hosts_trees import Tree, hosts_tomls, snapshot, trees, write_tree


def _is_said_once(before: list[Asked], after: list[Asked]) -> bool:
    """The user's last host was his origin too."""
    if len(before) < 2:
        return False
    *front, last, origin = before
    return (
        [it.url for it in after] == [it.url for it in [*front, last]]
        and last.url == origin.url
        and after[:-1] == front
        and replace(after[-1], capabilities=last.capabilities) == last
    )


def _moved(asked: Asked, old: Path, new: Path) -> Asked:
    def path(name: str) -> str:
        return name.replace(f"{old}/", f"{new}/")

    client = tuple(tuple(map(path, pair)) for pair in asked.client)
    return replace(asked, ca=tuple(map(path, asked.ca)), client=client)


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(
    trees(),
    st.sampled_from(["upstream", "peers", "off"]),
    st.sampled_from([(1, 6), (1, 7), (2, 1)]),
)
def test_containerd_asks_us_first_and_then_as_the_user_had_it(
    tree: Tree, tags: Tags, version: tuple[int, int]
) -> None:
    with memory_folder() as folder:
        certs = folder / "certs.d"
        certs.mkdir()
        write_tree(certs, tree)
        others = ["quay.io", "10.0.0.1:5000", "localhost:4000", "127.0.0.1"]
        before = {name: hosts_asked([certs], name, (2, 1)) for name in [*NAMED, *others]}
        run_configure(certs, tags=tags, containerd_version=version)
        for name, were in before.items():
            mirror, *are = hosts_asked([certs], name, version if name in NAMED else (2, 1))
            asked_for = {"pull", "resolve"} if tags == "peers" else {"pull"}
            assert mirror == replace(MIRROR, capabilities=frozenset(asked_for))
            if name in NAMED and tags != "off":
                resolves = {"pull", "resolve"} if version >= (2, 1) else {"pull"}
                assert are.pop() == replace(FALLBACK, capabilities=frozenset(resolves))
            if version < (2, 0):
                # There, a file without hosts is passed over; now it has one, and counts as on later versions.
                were = [replace(it, ca=(), client=(), scheme="", skip_verify=None) for it in were]
                are = [replace(it, ca=(), client=(), scheme="", skip_verify=None) for it in are]
            assert are == were or _is_said_once(were, are)


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(
    trees(),
    st.lists(st.tuples(st.sampled_from(["upstream", "peers", "off"]), st.booleans()), min_size=1, max_size=3),
)
def test_cleanup_leaves_the_tree_as_it_was(tree: Tree, runs: list[tuple[Tags, bool]]) -> None:
    with memory_folder() as folder:
        certs = folder / "etc/containerd/certs.d"
        certs.mkdir(parents=True)
        write_tree(certs, tree)
        before = snapshot(folder)
        for tags, as_list in runs:
            path = f"{certs}:{folder}/etc/docker/certs.d" if as_list else str(certs)
            run_configure(certs, tags=tags, config_path=path)
            assert run_configure(certs, tags=tags, config_path=path).changed is False
        add_registry(
            certs,
            "quay.io",
            registry_url=URL,
            tags="upstream",
            config_path=str(certs),
            containerd_version=None,
        )
        assert snapshot(folder) != before
        cleanup(certs)
        assert snapshot(folder) == before


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(trees(), trees(), hosts_tomls())
def test_what_the_user_does_after_us_is_merged_and_kept(tree: Tree, later: Tree, extra: str) -> None:
    # A directory that he makes where we made one, and leaves empty, is not to be told from ours.
    later = {name: file for name, file in later.items() if file is not None}
    with memory_folder() as folder:
        certs, twin = folder / "certs.d", folder / "twin"
        certs.mkdir()
        twin.mkdir()
        write_tree(certs, tree)
        write_tree(twin, tree)
        run_configure(certs)
        # He replaces files and adds directories; one file he only adds a comment to.
        for root in (certs, twin):
            write_tree(root, later)
            write_tree(root, {"docker.io/hosts.toml": (0o644, extra.encode())})
        run_configure(certs)
        for name in NAMED:
            _, *are, fallback = hosts_asked([certs], name, (2, 1))
            were = [_moved(it, twin, certs) for it in hosts_asked([twin], name, (2, 1))]
            assert fallback == FALLBACK
            assert are == were or _is_said_once(were, are)
        cleanup(certs)
        assert snapshot(certs) == snapshot(twin)
