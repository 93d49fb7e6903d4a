"""configure and cleanup on real directories: what containerd would do afterwards, and that nothing is left."""

import multiprocessing
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerd.hosts.cleanup import cleanup
from containerd.hosts.configure import add_registry, configure, registries_with_directory
from containerd.hosts.errors import HostsDirUnusable, HostsError, HostsFileInvalid, RegistryNameInvalid
from containerd.hosts.layout import Tags
from containerd.hosts.report import Action, Report
from tests.support.containerd_hosts import ALL, Asked, hosts_asked
from tests.support.hosts_trees import Tree, hosts_tomls, snapshot, trees, write_tree

URL = "http://127.0.0.1:29020"
NAMED = ["docker.io", "ghcr.io", "reg.test:5000", "localhost:5000"]


SAME = "the hosts directory"


def _configure(
    hosts_dir: Path,
    *,
    registry_url: str = URL,
    tags: Tags = "upstream",
    registries: Sequence[str] = NAMED,
    config_path: str | None = SAME,
    containerd_version: tuple[int, int] | None = (2, 1),
    default: bool = True,
) -> Report:
    return configure(
        hosts_dir,
        registry_url=registry_url,
        tags=tags,
        registries=registries,
        config_path=str(hosts_dir) if config_path is SAME else config_path,
        containerd_version=containerd_version,
        default=default,
    )


def _actions(report: Report) -> dict[str, Action]:
    return {change.registry: change.action for change in report.changes}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with _folder() as folder:
        yield Path(folder)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    directory = tmp_path / "etc/containerd/certs.d"
    directory.mkdir(parents=True)
    return directory


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


MIRROR = Asked("http", "127.0.0.1:29020", "/v2", frozenset({"pull"}), (), (), None, "[]", "1s", "[]")
FALLBACK = Asked(
    "http", "127.0.0.1:29020", "/fallback/v2", frozenset({"pull", "resolve"}), (), (), None, "[]", "", "[]"
)


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


def _folder() -> tempfile.TemporaryDirectory[str]:
    # In memory where there is such a file system: these tests sync some ten thousand files.
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    trees(),
    st.sampled_from(["upstream", "peers", "off"]),
    st.sampled_from([(1, 6), (1, 7), (2, 1)]),
)
def test_containerd_asks_us_first_and_then_as_the_user_had_it(
    tree: Tree, tags: Tags, version: tuple[int, int]
) -> None:
    with _folder() as folder:
        certs = Path(folder) / "certs.d"
        certs.mkdir()
        write_tree(certs, tree)
        others = ["quay.io", "10.0.0.1:5000", "localhost:4000", "127.0.0.1"]
        before = {name: hosts_asked([certs], name, (1, 7)) for name in [*NAMED, *others]}
        _configure(certs, tags=tags, containerd_version=version)
        for name, were in before.items():
            mirror, *are = hosts_asked([certs], name, version if name in NAMED else (1, 7))
            asked_for = {"pull", "resolve"} if tags == "peers" else {"pull"}
            assert mirror == replace(MIRROR, capabilities=frozenset(asked_for))
            if name in NAMED and tags != "off":
                assert are.pop() == FALLBACK
            if version == (1, 6):
                # There, a file without hosts is passed over; now it has one, and counts as on later versions.
                were = [replace(it, ca=(), client=(), scheme="", skip_verify=None) for it in were]
                are = [replace(it, ca=(), client=(), scheme="", skip_verify=None) for it in are]
            assert are == were or _is_said_once(were, are)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    trees(),
    st.lists(st.tuples(st.sampled_from(["upstream", "peers", "off"]), st.booleans()), min_size=1, max_size=3),
)
def test_cleanup_leaves_the_tree_as_it_was(tree: Tree, runs: list[tuple[Tags, bool]]) -> None:
    with _folder() as folder:
        certs = Path(folder) / "etc/containerd/certs.d"
        certs.mkdir(parents=True)
        write_tree(certs, tree)
        before = snapshot(Path(folder))
        for tags, as_list in runs:
            path = f"{certs}:{folder}/etc/docker/certs.d" if as_list else str(certs)
            _configure(certs, tags=tags, config_path=path)
            assert _configure(certs, tags=tags, config_path=path).changed is False
        add_registry(
            certs,
            "quay.io",
            registry_url=URL,
            tags="upstream",
            config_path=str(certs),
            containerd_version=None,
        )
        assert snapshot(Path(folder)) != before
        cleanup(certs)
        assert snapshot(Path(folder)) == before


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(trees(), trees(), hosts_tomls())
def test_what_the_user_does_after_us_is_merged_and_kept(tree: Tree, later: Tree, extra: str) -> None:
    # A directory that he makes where we made one, and leaves empty, is not to be told from ours.
    later = {name: file for name, file in later.items() if file is not None}
    with _folder() as folder:
        certs, twin = Path(folder) / "certs.d", Path(folder) / "twin"
        certs.mkdir()
        twin.mkdir()
        write_tree(certs, tree)
        write_tree(twin, tree)
        _configure(certs)
        # He replaces files and adds directories; one file he only adds a comment to.
        for root in (certs, twin):
            write_tree(root, later)
            write_tree(root, {"docker.io/hosts.toml": (0o644, extra.encode())})
        _configure(certs)
        for name in NAMED:
            _, *are, fallback = hosts_asked([certs], name, (2, 1))
            were = [_moved(it, twin, certs) for it in hosts_asked([twin], name, (2, 1))]
            assert fallback == FALLBACK
            assert are == were or _is_said_once(were, are)
        cleanup(certs)
        assert snapshot(certs) == snapshot(twin)


def test_a_second_run_touches_nothing(certs: Path) -> None:
    _write(certs / "docker.io/hosts.toml", 'server = "https://m.example"\n')
    _configure(certs)
    before = snapshot(certs)
    report = _configure(certs)
    assert set(_actions(report).values()) == {Action.UNCHANGED}
    assert not report.changed
    assert snapshot(certs) == before


def test_a_hosts_directory_that_was_not_there_is_made_and_goes_again(tmp_path: Path) -> None:
    certs = tmp_path / "certs.d"
    report = _configure(certs)
    assert _actions(report) == dict.fromkeys([*NAMED, "_default"], Action.WRITTEN)
    assert (certs.stat().st_mode & 0o777, (certs / "docker.io").stat().st_mode & 0o777) == (0o755, 0o755)
    assert (certs / "docker.io/hosts.toml").stat().st_mode & 0o777 == 0o644
    assert (certs / "_peili").stat().st_mode & 0o777 == 0o700
    assert set(_actions(cleanup(certs)).values()) == {Action.REMOVED}
    assert list(tmp_path.iterdir()) == []


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        _configure(tmp_path / "certs.d")
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "certs.d").glob("*.io/**/*")}
    assert modes == {0o644}
    assert (tmp_path / "certs.d/ghcr.io").stat().st_mode & 0o777 == 0o755


def test_cleanup_of_what_never_was(tmp_path: Path) -> None:
    assert cleanup(tmp_path / "certs.d").changes == ()
    (tmp_path / "certs.d/docker.io").mkdir(parents=True)
    assert cleanup(tmp_path / "certs.d").changes == ()
    assert (tmp_path / "certs.d/docker.io").is_dir()


def test_cleanup_twice(certs: Path) -> None:
    _write(certs / "docker.io/hosts.toml", 'server = "https://m.example"\n')
    before = snapshot(certs)
    _configure(certs)
    assert _actions(cleanup(certs))["docker.io"] is Action.RESTORED
    assert cleanup(certs).changes == ()
    assert snapshot(certs) == before


def test_a_restored_file_has_its_mode_owner_and_time(certs: Path) -> None:
    file = certs / "docker.io/hosts.toml"
    _write(file, 'server = "https://m.example"\n', 0o640)
    os.chown(file, 12, 34)
    os.utime(file, ns=(1, 1_500_000_000_123_456_789))
    before = snapshot(certs)
    _configure(certs)
    status = file.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 12, 34)
    cleanup(certs)
    assert snapshot(certs) == before


def test_a_secret_in_the_default_file_does_not_become_readable_elsewhere(certs: Path) -> None:
    _write(
        certs / "_default/hosts.toml", '[host."https://m"]\n[host."https://m".header]\na="secret"\n', 0o600
    )
    _configure(certs)
    for file in certs.rglob("*"):
        if file.is_file() and b"secret" in file.read_bytes():
            assert file.stat().st_mode & 0o777 == 0o600, file
    assert b"secret" in (certs / "ghcr.io/hosts.toml").read_bytes()


def test_the_default_file_works_on_for_a_registry_that_got_a_directory(certs: Path) -> None:
    _write(certs / "_default/hosts.toml", 'ca = "o.crt"\n[host."https://m"]\nca = ["m.crt", "/etc/n.crt"]\n')
    before = hosts_asked([certs], "ghcr.io", (2, 1))
    _configure(certs)
    assert hosts_asked([certs], "ghcr.io", (2, 1))[1:-1] == before
    assert before[0].ca == (f"{certs}/_default/m.crt", "/etc/n.crt")
    assert 'ca = ["../_default/m.crt", "/etc/n.crt"]' in (certs / "ghcr.io/hosts.toml").read_text()
    # He changes it: the copies follow at the next run.
    _write(certs / "_default/hosts.toml", '[host."https://new"]\n')
    assert _actions(_configure(certs))["ghcr.io"] is Action.WRITTEN
    assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][1:-1] == ["new", "ghcr.io"]


def test_certificate_files_work_on(certs: Path) -> None:
    for name in ("ca.crt", "x.cert", "x.key"):
        _write(certs / "reg.test:5000" / name, "PEM")
    before = hosts_asked([certs], "reg.test:5000", (2, 1))
    assert before[0].ca and before[0].client
    modes: tuple[Tags, ...] = ("upstream", "off")
    for tags in modes:
        _configure(certs, tags=tags)
        after = hosts_asked([certs], "reg.test:5000", (2, 1))
        assert [it for it in after if it.host == "reg.test:5000"] == before
    _write(certs / "reg.test:5000/second.crt", "PEM")
    _configure(certs)
    assert f"{certs}/reg.test:5000/second.crt" in hosts_asked([certs], "reg.test:5000", (2, 1))[1].ca


def test_on_1_6_certificate_files_beside_a_file_without_hosts_work_on(certs: Path) -> None:
    _write(certs / "reg.test:5000/hosts.toml", 'server = "https://reg.test:5000"\n')
    _write(certs / "reg.test:5000/ca.crt", "PEM")
    before = hosts_asked([certs], "reg.test:5000", (1, 6))
    _configure(certs, containerd_version=(1, 6))
    assert hosts_asked([certs], "reg.test:5000", (1, 6))[1:-1] == before
    assert before[0].ca
    # On later versions they never counted there.
    _configure(certs, containerd_version=(1, 7))
    assert hosts_asked([certs], "reg.test:5000", (1, 7))[1].ca == ()


@pytest.mark.parametrize("name", ["localhost:5000", "127.0.0.1:5000"])
@pytest.mark.parametrize("version", [(1, 6), (2, 1)])
def test_a_plain_http_registry_on_loopback_stays_one(
    certs: Path, name: str, version: tuple[int, int]
) -> None:
    before = hosts_asked([certs], name, version)
    _configure(certs, registries=[name], containerd_version=version)
    assert hosts_asked([certs], name, version)[1:-1] == before
    assert before[0].scheme == "http"


@pytest.mark.parametrize("users", ["reg.test:5000", "reg.test_5000_"])
def test_the_directory_that_the_user_has_is_used(certs: Path, users: str) -> None:
    _write(certs / users / "hosts.toml", '[host."https://m"]\n')
    _configure(certs)
    assert [path.name for path in certs.glob("reg.test*")] == [users]
    assert hosts_asked([certs], "reg.test:5000", (2, 1))[0] == MIRROR


def test_a_directory_that_containerd_prefers_appears_later(certs: Path) -> None:
    before = snapshot(certs)
    _configure(certs)
    _write(certs / "reg.test_5000_/hosts.toml", '[host."https://m"]\n')
    _configure(certs)
    assert [path.name for path in certs.glob("reg.test*")] == ["reg.test_5000_"]
    assert [it.host for it in hosts_asked([certs], "reg.test:5000", (2, 1))][1] == "m"
    cleanup(certs)
    shutil.rmtree(certs / "reg.test_5000_")
    assert snapshot(certs) == before


def test_registries_of_earlier_runs_stay_and_follow_the_new_arguments(certs: Path) -> None:
    _configure(certs, registries=["docker.io"])
    add_registry(
        certs,
        "quay.io",
        registry_url=URL,
        tags="upstream",
        config_path=None,
        containerd_version=None,
    )
    _configure(certs, registries=["ghcr.io"], registry_url="http://127.0.0.1:1")
    for name in ("docker.io", "quay.io", "ghcr.io", "_default"):
        assert "29020" not in (certs / name / "hosts.toml").read_text()


def test_add_registry_touches_nothing_else(certs: Path) -> None:
    _write(certs / "_default/hosts.toml", '[host."https://m"]\n')
    _configure(certs)
    (certs / "_default/hosts.toml").write_text("broken [")
    before = snapshot(certs)
    with pytest.raises(HostsFileInvalid):
        _add(certs, "quay.io")
    (certs / "_default/hosts.toml").write_text('[host."https://new"]\n')
    before = snapshot(certs)
    assert _actions(_add(certs, "quay.io")) == {"quay.io": Action.WRITTEN}
    after = snapshot(certs)
    assert {name for name in before if before[name] != after[name]} == {"_peili/manifest.json"}
    assert _actions(_add(certs, "quay.io")) == {"quay.io": Action.UNCHANGED}
    assert snapshot(certs) == after
    assert [it.host for it in hosts_asked([certs], "quay.io", (2, 1))][1] == "new"


def _add(certs: Path, name: str) -> Report:
    return add_registry(
        certs, name, registry_url=URL, tags="upstream", config_path=None, containerd_version=None
    )


@pytest.mark.parametrize("name", ["localhost:5000", "10.0.0.1", "[::1]:5000", "../x", "a/b"])
def test_add_registry_takes_no_address_and_nothing_that_leaves_the_directory(certs: Path, name: str) -> None:
    with pytest.raises(RegistryNameInvalid):
        _add(certs, name)
    assert list(certs.iterdir()) == []


def test_without_default(certs: Path) -> None:
    _configure(certs)
    assert (certs / "_default").is_dir()
    assert _actions(_configure(certs, default=False))["_default"] is Action.REMOVED
    assert not (certs / "_default").exists()


def test_registries_with_directory(certs: Path) -> None:
    for name in ("docker.io", "reg.test_5000_", "10.0.0.1", "localhost:5000", "_default", "junk", "_peili"):
        (certs / name).mkdir()
    (certs / "quay.io").write_text("a file")
    assert registries_with_directory(certs) == ("docker.io", "reg.test:5000")
    assert registries_with_directory(certs / "not there") == ()


class TestList:
    """config_path is a list: split by 1.x and by local pulls, one literal path in transfer-service mode."""

    @pytest.fixture
    def docker(self, tmp_path: Path) -> Path:
        return tmp_path / "etc/docker/certs.d"

    @pytest.fixture
    def literal(self, certs: Path, docker: Path) -> Path:
        return Path(f"{certs}:{docker}")

    def _run(self, certs: Path, docker: Path) -> Report:
        return _configure(certs, config_path=f"{certs}:{docker}")

    def test_the_literal_path_has_the_same(self, certs: Path, docker: Path, literal: Path) -> None:
        _write(certs / "docker.io/hosts.toml", 'ca = "a.crt"\n[host."https://m"]\nca = "b.crt"\n')
        _write(certs / "_default/hosts.toml", '[host."https://d"]\nca = "c.crt"\n')
        self._run(certs, docker)
        for name in [*NAMED, "quay.io"]:
            assert hosts_asked([literal], name, (2, 1)) == hosts_asked([certs, docker], name, (2, 1))
        assert hosts_asked([literal], "docker.io", (2, 1))[1].ca == (f"{certs}/docker.io/b.crt",)

    def test_a_text_of_the_user_in_the_literal_path_counts_there(
        self, certs: Path, docker: Path, literal: Path
    ) -> None:
        _write(certs / "docker.io/hosts.toml", '[host."https://m"]\n')
        _write(literal / "docker.io/hosts.toml", '[host."https://literal"]\n')
        self._run(certs, docker)
        assert hosts_asked([literal], "docker.io", (2, 1))[1].host == "literal"
        assert hosts_asked([certs], "docker.io", (2, 1))[1].host == "m"

    def test_our_default_does_not_hide_what_stands_in_a_later_directory(
        self, certs: Path, docker: Path
    ) -> None:
        _write(docker / "priv.example:5000/ca.crt", "PEM")
        _write(docker / "10.0.0.5:5000/hosts.toml", 'server = "http://10.0.0.5:5000"\n[host."http://m"]\n')
        _write(docker / "_default/hosts.toml", '[host."https://d"]\n')
        _write(docker / "ghcr.io/hosts.toml", '[host."https://g"]\nca = "g.crt"\n')
        names = ["priv.example:5000", "10.0.0.5:5000", "quay.io"]
        before = {name: hosts_asked([certs, docker], name, (1, 7)) for name in [*names, "ghcr.io"]}
        tree = snapshot(certs.parent.parent)
        self._run(certs, docker)
        for name in names:
            assert hosts_asked([certs, docker], name, (1, 7)) == [MIRROR, *before[name]]
        assert hosts_asked([certs, docker], "ghcr.io", (1, 7))[1:-1] == before["ghcr.io"]
        assert before["ghcr.io"][0].ca == (f"{docker}/ghcr.io/g.crt",)
        # What is hidden no more needs no directory in front of it.
        shutil.rmtree(docker / "priv.example:5000")
        self._run(certs, docker)
        assert not (certs / "priv.example:5000").exists()
        _write(docker / "priv.example:5000/ca.crt", "PEM")
        cleanup(certs)
        assert tree.keys() == snapshot(certs.parent.parent).keys()

    def test_a_list_that_became_a_directory(self, certs: Path, docker: Path, literal: Path) -> None:
        before = snapshot(certs.parent.parent)
        self._run(certs, docker)
        assert (literal / "docker.io/hosts.toml").exists()
        _configure(certs)
        assert not (certs.parent / "certs.d:").exists()
        assert (certs / "docker.io/hosts.toml").exists()
        cleanup(certs)
        assert snapshot(certs.parent.parent) == before

    def test_an_earlier_directory_of_the_list_wins_and_that_is_said(self, certs: Path, docker: Path) -> None:
        _write(certs / "ghcr.io/hosts.toml", '[host."https://m"]\n')
        docker.mkdir(parents=True)
        report = _configure(docker, config_path=f"{certs}:{docker}")
        assert [it for it in report.warnings if "ghcr.io is not mirrored" in it]
        assert not [it for it in report.warnings if "docker.io is not" in it]

    def test_unknown_from_2_2_on(self, certs: Path) -> None:
        _configure(certs, config_path=None, containerd_version=(2, 1))
        default_list = Path(f"{certs}:/etc/docker/certs.d")
        assert not default_list.exists()
        _configure(certs, config_path=None, containerd_version=(2, 2))
        assert hosts_asked([default_list], "docker.io", (2, 1))[0] == MIRROR

    def test_seen_through_another_mount(self, tmp_path: Path, certs: Path, docker: Path) -> None:
        """Written from where /etc is mounted elsewhere, undone from where it is not."""
        before = snapshot(tmp_path)
        _configure(certs, config_path="/etc/containerd/certs.d:/etc/docker/certs.d")
        assert Path(f"{certs}:/etc/docker/certs.d/docker.io/hosts.toml").exists()
        moved = tmp_path / "elsewhere"
        (tmp_path / "etc").rename(moved)
        cleanup(moved / "containerd/certs.d")
        moved.rename(tmp_path / "etc")
        assert snapshot(tmp_path) == before


def test_a_setting_that_names_another_directory_is_a_warning(certs: Path) -> None:
    assert "does not read" in _configure(certs, config_path="/other").warnings[0]
    assert "config_path is empty" in _configure(certs, config_path="").warnings[0]
    assert _configure(certs).warnings == ()


def test_an_address_of_ours_that_is_not_loopback_is_a_warning(certs: Path) -> None:
    report = _configure(certs, registry_url="http://192.0.2.1:29020")
    assert "not a loopback address" in report.warnings[0]


class TestUserAfterUs:
    """What cleanup does with files that are not as we left them."""

    def test_a_file_that_was_edited_keeps_the_edit(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        _write(file, '# one\nserver = "https://s"\n[host."https://m"]\n')
        _configure(certs)
        file.write_text(file.read_text().replace("# one", "# two") + '[host."https://n"]\n')
        file.chmod(0o600)
        assert _actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert file.read_text() == '# two\nserver = "https://s"\n[host."https://m"]\n[host."https://n"]\n'
        assert file.stat().st_mode & 0o777 == 0o600

    def test_an_edit_that_is_no_toml_is_kept_too(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        _write(file, 'server = "https://s"\n')
        _configure(certs)
        file.write_bytes(file.read_bytes() + b"nonsense \xff\n")
        cleanup(certs)
        assert file.read_bytes() == b'server = "https://s"\nnonsense \xff\n'

    def test_a_file_that_was_replaced_stays(self, certs: Path) -> None:
        _configure(certs)
        _write(certs / "docker.io/hosts.toml", "# mine\n")
        assert _actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert (certs / "docker.io/hosts.toml").read_text() == "# mine\n"

    def test_a_file_that_was_removed_stays_away(self, certs: Path) -> None:
        _write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        _configure(certs)
        (certs / "docker.io/hosts.toml").unlink()
        cleanup(certs)
        assert snapshot(certs).keys() == {"docker.io"}

    def test_what_was_added_to_a_file_of_ours_stays_and_so_does_its_directory(self, certs: Path) -> None:
        _configure(certs)
        with (certs / "ghcr.io/hosts.toml").open("a") as file:
            file.write('[host."https://mine"]\n')
        _write(certs / "docker.io/ca.crt", "PEM")
        cleanup(certs)
        assert snapshot(certs).keys() == {"ghcr.io", "ghcr.io/hosts.toml", "docker.io", "docker.io/ca.crt"}
        assert (certs / "ghcr.io/hosts.toml").read_text() == '[host."https://mine"]\n'

    def test_an_empty_file_of_the_user_comes_back_though_he_edited_our_block(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        _write(file, "")
        _configure(certs)
        file.write_text(file.read_text().replace('"1s"', '"2s"'))
        cleanup(certs)
        assert file.read_bytes() == b""

    def test_a_mark_that_lost_its_partner_stops_cleanup_before_it_changes_anything(self, certs: Path) -> None:
        _write(certs / "zz.example/hosts.toml", "")
        _configure(certs, registries=["docker.io", "zz.example"])
        file = certs / "zz.example/hosts.toml"
        file.write_text(file.read_text().replace("# <<< peili\n", ""))
        before = snapshot(certs)
        with pytest.raises(HostsFileInvalid, match=r"zz.example/hosts.toml, line 1: .*without its partner"):
            cleanup(certs)
        assert snapshot(certs) == before

    def test_an_original_that_somebody_removed_is_made_from_the_file(self, certs: Path) -> None:
        text = '# one\nserver = "https://s"\n[host."https://m"]\n'
        _write(certs / "docker.io/hosts.toml", text)
        _configure(certs)
        shutil.rmtree(certs / "_peili/originals")
        assert _actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert (certs / "docker.io/hosts.toml").read_text() == text

    def test_originals_of_earlier_edits_are_forgotten(self, certs: Path) -> None:
        for text in ("# one\n", "# two\n", "# three\n"):
            _write(certs / "docker.io/hosts.toml", text)
            _configure(certs)
        assert [path.read_text() for path in (certs / "_peili/originals").iterdir()] == ["# three\n"]


class TestWithoutManifest:
    def test_the_marks_tell_what_is_ours(self, certs: Path) -> None:
        text = '# one\nserver = "https://s"\n[host."https://m"]\n'
        _write(certs / "docker.io/hosts.toml", text)
        _configure(certs)
        shutil.rmtree(certs / "_peili")
        assert _actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert snapshot(certs).keys() == {"docker.io", "docker.io/hosts.toml"}
        assert (certs / "docker.io/hosts.toml").read_text() == text

    def test_a_stale_block_is_not_taken_for_text_of_the_user(self, certs: Path) -> None:
        _write(certs / "_default/hosts.toml", '[host."https://d"]\n')
        _configure(certs)
        shutil.rmtree(certs / "_peili")
        _configure(certs, registry_url="http://127.0.0.1:1")
        assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][:2] == ["127.0.0.1:1", "d"]
        cleanup(certs)
        assert (certs / "_default/hosts.toml").read_text() == '[host."https://d"]\n'
        assert not [path for path in certs.rglob("*") if path.is_file() and b"peili" in path.read_bytes()]

    @pytest.mark.parametrize("content", [b"{", b'{"version": 2}', b'{"entries": 1}'])
    def test_a_manifest_that_cannot_be_read_is_said(self, certs: Path, content: bytes) -> None:
        _configure(certs)
        (certs / "_peili/manifest.json").write_bytes(content)
        before = snapshot(certs)
        for run in (_configure, cleanup):
            with pytest.raises(HostsError, match=r"manifest.json: .*cleanup again"):
                run(certs)
        assert snapshot(certs) == before


class TestLinks:
    def test_a_linked_file_is_read_through_and_comes_back_as_a_link(
        self, certs: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "managed.toml"
        _write(target, '[host."https://m"]\n')
        (certs / "docker.io").mkdir()
        (certs / "docker.io/hosts.toml").symlink_to(target)
        before = snapshot(tmp_path)
        _configure(certs)
        assert [it.host for it in hosts_asked([certs], "docker.io", (2, 1))][1] == "m"
        assert target.read_text() == '[host."https://m"]\n'
        cleanup(certs)
        assert snapshot(tmp_path) == before

    def test_a_link_to_nothing(self, certs: Path) -> None:
        (certs / "docker.io").mkdir()
        (certs / "docker.io/hosts.toml").symlink_to("nowhere")
        before = snapshot(certs)
        _configure(certs)
        assert hosts_asked([certs], "docker.io", (2, 1))[0] == MIRROR
        cleanup(certs)
        assert snapshot(certs) == before

    def test_a_linked_directory_is_left_alone_with_a_warning(self, certs: Path) -> None:
        _write(certs / "docker.io/hosts.toml", '[host."https://m"]\n')
        (certs / "ghcr.io").symlink_to("docker.io")
        before = snapshot(certs)
        report = _configure(certs)
        assert _actions(report)["ghcr.io"] is Action.SKIPPED
        assert "ghcr.io is a symbolic link" in report.warnings[0]
        cleanup(certs)
        assert snapshot(certs) == before

    def test_a_directory_that_became_a_link_is_not_followed(self, certs: Path) -> None:
        _configure(certs)
        shutil.rmtree(certs / "ghcr.io")
        (certs / "ghcr.io").symlink_to("docker.io")
        _configure(certs)
        assert hosts_asked([certs], "docker.io", (2, 1))[0] == MIRROR
        cleanup(certs)
        assert snapshot(certs).keys() == {"ghcr.io"}


class TestBadInput:
    @pytest.mark.parametrize("content", [b"server = \n", b"# \xff\n", b"server = 1\n"])
    def test_one_bad_file_and_nothing_is_written_anywhere(self, certs: Path, content: bytes) -> None:
        _write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        _write(certs / "ghcr.io/hosts.toml", "")
        (certs / "ghcr.io/hosts.toml").write_bytes(b"\n" + content)
        before = snapshot(certs)
        with pytest.raises(HostsFileInvalid, match=r"ghcr\.io/hosts\.toml.*nothing was changed") as caught:
            _configure(certs)
        assert caught.value.line == (None if content == b"server = 1\n" else 2)
        assert snapshot(certs) == before

    def test_the_line_is_that_of_the_file_with_our_blocks_in_it(self, certs: Path) -> None:
        _write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        _configure(certs)
        text = (certs / "docker.io/hosts.toml").read_text() + "nonsense\n"
        (certs / "docker.io/hosts.toml").write_text(text)
        with pytest.raises(HostsFileInvalid) as caught:
            _configure(certs)
        assert caught.value.line == text.count("\n")

    def test_a_bad_file_and_no_hosts_directory_yet(self, tmp_path: Path) -> None:
        _write(tmp_path / "b/docker.io/hosts.toml", "x")
        with pytest.raises(HostsFileInvalid):
            _configure(tmp_path / "a", config_path=f"{tmp_path}/a:{tmp_path}/b")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]

    def test_a_directory_in_the_place_of_the_file(self, certs: Path) -> None:
        (certs / "docker.io/hosts.toml").mkdir(parents=True)
        with pytest.raises(HostsFileInvalid, match="not a file"):
            _configure(certs)

    def test_a_file_in_the_place_of_the_directory(self, certs: Path) -> None:
        (certs / "docker.io").write_text("")
        with pytest.raises(HostsDirUnusable, match=r"docker\.io/hosts\.toml: Not a directory"):
            _configure(certs)

    def test_a_file_of_unreasonable_size(self, certs: Path) -> None:
        _write(certs / "docker.io/hosts.toml", "#" * (256 * 1024 + 1))
        with pytest.raises(HostsFileInvalid, match="larger than 262144 bytes"):
            _configure(certs)

    def test_a_certificate_whose_name_cannot_be_written(self, certs: Path) -> None:
        (certs / "docker.io").mkdir()
        Path(os.fsdecode(os.fsencode(certs) + b"/docker.io/\xff.crt")).touch()
        with pytest.raises(HostsFileInvalid, match="a name that no hosts"):
            _configure(certs)

    def test_a_bad_name_among_good_ones(self, certs: Path) -> None:
        with pytest.raises(RegistryNameInvalid, match="'a/b'"):
            _configure(certs, registries=["docker.io", "a/b"])
        assert list(certs.iterdir()) == []

    def test_no_parent_directory(self, tmp_path: Path) -> None:
        with pytest.raises(HostsDirUnusable, match="not there: no such directory; make it"):
            _configure(tmp_path / "not there/certs.d")

    def test_a_file_in_the_place_of_the_hosts_directory(self, tmp_path: Path) -> None:
        (tmp_path / "certs.d").write_text("")
        with pytest.raises(HostsDirUnusable):
            _configure(tmp_path / "certs.d")
        assert [path.name for path in tmp_path.iterdir()] == ["certs.d"]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of root's in which this process, for the time of the test, is somebody else."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    certs = folder / "certs.d"
    certs.mkdir()
    was_root = os.geteuid() == 0
    try:
        yield certs
    finally:
        if was_root:
            os.seteuid(0)
        certs.chmod(0o755)
        shutil.rmtree(folder)


def _become_nobody(certs: Path) -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        certs.chmod(0o555)


def test_a_directory_that_may_not_be_written(unprivileged: Path) -> None:
    _write(unprivileged / "docker.io/hosts.toml", 'server = "https://s"\n')
    before = snapshot(unprivileged)
    _become_nobody(unprivileged)
    with pytest.raises(
        HostsDirUnusable, match="Permission denied; peili must be able to read and write below"
    ):
        _configure(unprivileged)
    assert snapshot(unprivileged) == before


def test_a_file_that_may_not_be_read(unprivileged: Path) -> None:
    _write(unprivileged / "docker.io/hosts.toml", 'server = "https://s"\n', 0o000)
    unprivileged.chmod(0o777)
    _become_nobody(unprivileged)
    with pytest.raises(HostsDirUnusable, match=r"docker\.io/hosts\.toml: Permission denied"):
        _configure(unprivileged)
    assert {path.name for path in unprivileged.iterdir()} == {"docker.io"}


def test_a_second_directory_that_may_not_be_written_leaves_the_first_untouched(unprivileged: Path) -> None:
    for name in ("docker.io", "ghcr.io"):
        _write(unprivileged / name / "hosts.toml", 'server = "https://s"\n')
    unprivileged.chmod(0o777)
    (unprivileged / "docker.io").chmod(0o777)
    os.chown(unprivileged / "docker.io/hosts.toml", 65534, os.getegid())
    before = snapshot(unprivileged)
    _become_nobody(unprivileged)
    with pytest.raises(HostsDirUnusable, match=r"ghcr\.io"):
        _configure(unprivileged)
    assert snapshot(unprivileged) == before


@pytest.mark.parametrize("limit_bytes", [0, 100, 1000, 3300])
@pytest.mark.parametrize("second_run", [False, True])
def test_a_disk_that_takes_no_more_leaves_all_as_it_was(
    certs: Path, limit_bytes: int, second_run: bool
) -> None:
    """At 3300 bytes the original and the manifest are written, and the new file is too long."""
    _write(certs / "docker.io/hosts.toml", "#" * 3000 + "\n")
    if second_run:
        _configure(certs, registries=["docker.io"], tags="off")
    before = snapshot(certs)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(HostsDirUnusable, match="File too large"):
            _configure(certs, registries=["docker.io"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = snapshot(certs)
    # The manifest may be a new file that says the same again.
    state = "_peili/manifest.json"
    assert before.pop(state, ())[:4] == after.pop(state, ())[:4]
    assert after == before
    cleanup(certs)
    assert (certs / "docker.io/hosts.toml").read_text() == "#" * 3000 + "\n"


@pytest.mark.slow
def test_processes_that_run_at_once_do_not_lose_each_others_entries(certs: Path) -> None:
    names = [f"reg{number}.example" for number in range(8)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.starmap(_add, [(certs, name) for name in names])
    for name in names:
        assert hosts_asked([certs], name, (2, 1))[0] == MIRROR
    cleanup(certs)
    assert list(certs.iterdir()) == []


def test_the_model_of_containerd_on_files_that_are_known(certs: Path) -> None:
    """The judge of the tests above, judged by hand."""
    _write(
        certs / "_default/hosts.toml", 'server = "m.example"\ncapabilities = ["pull"]\n[host."http://h/a/"]\n'
    )
    host = Asked("http", "h", "/a/v2", ALL, (), (), None, "[]", "", "[]")
    server = Asked("https", "m.example", "/v2", frozenset({"pull"}), (), (), None, "[]", "", "[]")
    assert hosts_asked([certs], "ghcr.io:5000", (2, 1)) == [host, server]
    _write(certs / "ghcr.io_5000_/ca.crt", "PEM")
    (own,) = hosts_asked([certs], "ghcr.io:5000", (2, 1))
    assert (own.url, own.ca) == ("https://ghcr.io:5000/v2", (f"{certs}/ghcr.io_5000_/ca.crt",))
    (local,) = hosts_asked([certs / "none"], "localhost:5000", (2, 1))
    assert (local.url, local.skip_verify) == ("http://localhost:5000/v2", True)
