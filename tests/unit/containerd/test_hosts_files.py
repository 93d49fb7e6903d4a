"""configure on real directories, case by case: what containerd would do afterwards."""

import os
import shutil
from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.configure import add_registry, registries_with_directory
from containerd.hosts.errors import (
    HostsFileInvalid,
    RegistryNameInvalid,
)
from containerd.hosts.layout import Tags
from containerd.hosts.report import Action
from tests.support.containerd_hosts import ALL, Asked, hosts_asked
from tests.support.hosts_runs import (
    FALLBACK,
    MIRROR,
    NAMED,
    URL,
    actions,
    run_add,
    run_configure,
    write,
)
from tests.support.hosts_trees import snapshot


def test_a_second_run_touches_nothing(certs: Path) -> None:
    write(certs / "docker.io/hosts.toml", 'server = "https://m.example"\n')
    run_configure(certs)
    before = snapshot(certs)
    report = run_configure(certs)
    assert set(actions(report).values()) == {Action.UNCHANGED}
    assert not report.changed
    assert snapshot(certs) == before


def test_a_hosts_directory_that_was_not_there_is_made_and_goes_again(folder: Path) -> None:
    certs = folder / "certs.d"
    report = run_configure(certs)
    assert actions(report) == dict.fromkeys([*NAMED, "_default"], Action.WRITTEN)
    assert (certs.stat().st_mode & 0o777, (certs / "docker.io").stat().st_mode & 0o777) == (0o755, 0o755)
    assert (certs / "docker.io/hosts.toml").stat().st_mode & 0o777 == 0o644
    assert (certs / "_peili").stat().st_mode & 0o777 == 0o700
    assert set(actions(cleanup(certs)).values()) == {Action.REMOVED}
    assert list(folder.iterdir()) == []


def test_modes_do_not_depend_on_the_umask(folder: Path) -> None:
    old = os.umask(0o077)
    try:
        run_configure(folder / "certs.d")
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (folder / "certs.d").glob("*.io/**/*")}
    assert modes == {0o644}
    assert (folder / "certs.d/ghcr.io").stat().st_mode & 0o777 == 0o755


def test_a_secret_in_the_default_file_does_not_become_readable_elsewhere(certs: Path) -> None:
    write(certs / "_default/hosts.toml", '[host."https://m"]\n[host."https://m".header]\na="secret"\n', 0o600)
    run_configure(certs)
    for file in certs.rglob("*"):
        if file.is_file() and b"secret" in file.read_bytes():
            assert file.stat().st_mode & 0o777 == 0o600, file
    assert b"secret" in (certs / "ghcr.io/hosts.toml").read_bytes()


def test_the_default_file_works_on_for_a_registry_that_got_a_directory(certs: Path) -> None:
    write(certs / "_default/hosts.toml", 'ca = "o.crt"\n[host."https://m"]\nca = ["m.crt", "/etc/n.crt"]\n')
    before = hosts_asked([certs], "ghcr.io", (2, 1))
    run_configure(certs)
    assert hosts_asked([certs], "ghcr.io", (2, 1))[1:-1] == before
    assert before[0].ca == (f"{certs}/_default/m.crt", "/etc/n.crt")
    assert 'ca = ["../_default/m.crt", "/etc/n.crt"]' in (certs / "ghcr.io/hosts.toml").read_text()
    # He changes it: the copies follow at the next run.
    write(certs / "_default/hosts.toml", '[host."https://new"]\n')
    assert actions(run_configure(certs))["ghcr.io"] is Action.WRITTEN
    assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][1:-1] == ["new", "ghcr.io"]


def test_the_page_about_it_shows_what_is_written(certs: Path) -> None:
    run_configure(certs)
    page = Path(__file__).parents[3] / "docs/hosts-toml.md"
    shown = page.read_text().split("```toml\n")[1].split("```")[0]
    assert (certs / "ghcr.io/hosts.toml").read_text() == shown


@pytest.mark.parametrize("file", ["hosts.toml", "README"])
def test_a_directory_of_ours_becomes_his_when_he_puts_something_in_it(certs: Path, file: str) -> None:
    """And then his `_default` counts there no more, as it would not for containerd."""
    write(certs / "_default/hosts.toml", '[host."https://d"]\n')
    run_configure(certs)
    with (certs / "ghcr.io/hosts.toml").open("a") as ours:
        ours.write("# a comment makes it no file of his\n")
    run_configure(certs)
    assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][1:-1] == ["d", "ghcr.io"]
    (certs / "ghcr.io" / file).write_text("# a file does\n")
    run_configure(certs)
    assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][1:-1] == ["ghcr.io"]


def test_certificate_files_work_on(certs: Path) -> None:
    for name in ("ca.crt", "x.cert", "x.key"):
        write(certs / "reg.test:5000" / name, "PEM")
    before = hosts_asked([certs], "reg.test:5000", (2, 1))
    assert before[0].ca and before[0].client
    modes: tuple[Tags, ...] = ("upstream", "off")
    for tags in modes:
        run_configure(certs, tags=tags)
        after = hosts_asked([certs], "reg.test:5000", (2, 1))
        assert [it for it in after if it.host == "reg.test:5000"] == before
    write(certs / "reg.test:5000/second.crt", "PEM")
    run_configure(certs)
    assert f"{certs}/reg.test:5000/second.crt" in hosts_asked([certs], "reg.test:5000", (2, 1))[1].ca


def test_on_1_6_certificate_files_beside_a_file_without_hosts_work_on(certs: Path) -> None:
    write(certs / "reg.test:5000/hosts.toml", 'server = "https://reg.test:5000"\n')
    write(certs / "reg.test:5000/ca.crt", "PEM")
    before = hosts_asked([certs], "reg.test:5000", (1, 6))
    run_configure(certs, containerd_version=(1, 6))
    assert hosts_asked([certs], "reg.test:5000", (1, 6))[1:-1] == before
    assert before[0].ca
    # On later versions they never counted there.
    run_configure(certs, containerd_version=(2, 1))
    assert hosts_asked([certs], "reg.test:5000", (2, 1))[1].ca == ()


@pytest.mark.parametrize("name", ["localhost:5000", "127.0.0.1:5000"])
@pytest.mark.parametrize("version", [(1, 6), (2, 1)])
def test_a_plain_http_registry_on_loopback_stays_one(
    certs: Path, name: str, version: tuple[int, int]
) -> None:
    before = hosts_asked([certs], name, version)
    run_configure(certs, registries=[name], containerd_version=version)
    assert hosts_asked([certs], name, version)[1:-1] == before
    assert before[0].scheme == "http"


@pytest.mark.parametrize("users", ["reg.test:5000", "reg.test_5000_"])
def test_the_directory_that_the_user_has_is_used(certs: Path, users: str) -> None:
    write(certs / users / "hosts.toml", '[host."https://m"]\n')
    run_configure(certs)
    assert [path.name for path in certs.glob("reg.test*")] == [users]
    assert hosts_asked([certs], "reg.test:5000", (2, 1))[0] == MIRROR


def test_a_directory_that_containerd_prefers_appears_later(certs: Path) -> None:
    before = snapshot(certs)
    run_configure(certs)
    write(certs / "reg.test_5000_/hosts.toml", '[host."https://m"]\n')
    run_configure(certs)
    assert [path.name for path in certs.glob("reg.test*")] == ["reg.test_5000_"]
    assert [it.host for it in hosts_asked([certs], "reg.test:5000", (2, 1))][1] == "m"
    cleanup(certs)
    shutil.rmtree(certs / "reg.test_5000_")
    assert snapshot(certs) == before


def test_registries_of_earlier_runs_stay_and_follow_the_new_arguments(certs: Path) -> None:
    run_configure(certs, registries=["docker.io"])
    add_registry(
        certs,
        "quay.io",
        registry_url=URL,
        tags="upstream",
        config_path=None,
        containerd_version=None,
    )
    run_configure(certs, registries=["ghcr.io"], registry_url="http://127.0.0.1:1")
    for name in ("docker.io", "quay.io", "ghcr.io", "_default"):
        assert "29020" not in (certs / name / "hosts.toml").read_text()


def test_add_registry_touches_nothing_else(certs: Path) -> None:
    write(certs / "_default/hosts.toml", '[host."https://m"]\n')
    run_configure(certs)
    (certs / "_default/hosts.toml").write_text("broken [")
    before = snapshot(certs)
    with pytest.raises(HostsFileInvalid):
        run_add(certs, "quay.io")
    (certs / "_default/hosts.toml").write_text('[host."https://new"]\n')
    before = snapshot(certs)
    assert actions(run_add(certs, "quay.io")) == {"quay.io": Action.WRITTEN}
    after = snapshot(certs)
    assert {name for name in before if before[name] != after[name]} == {"_peili/manifest.json"}
    assert actions(run_add(certs, "quay.io")) == {"quay.io": Action.UNCHANGED}
    assert snapshot(certs) == after
    assert [it.host for it in hosts_asked([certs], "quay.io", (2, 1))][1] == "new"


@pytest.mark.parametrize("name", ["localhost:5000", "10.0.0.1", "[::1]:5000", "../x", "a/b"])
def test_add_registry_takes_no_address_and_nothing_that_leaves_the_directory(certs: Path, name: str) -> None:
    with pytest.raises(RegistryNameInvalid):
        run_add(certs, name)
    assert list(certs.iterdir()) == []


def test_without_default(certs: Path) -> None:
    run_configure(certs)
    assert (certs / "_default").is_dir()
    assert actions(run_configure(certs, default=False))["_default"] is Action.REMOVED
    assert not (certs / "_default").exists()


def test_registries_with_directory(certs: Path) -> None:
    for name in (
        "docker.io",
        "reg.test_5000_",
        "10.0.0.1",
        "localhost:5000",
        "127.0.0.1:1",
        "_default",
        "junk",
        "_peili",
    ):
        (certs / name).mkdir()
    (certs / "quay.io").write_text("a file")
    assert registries_with_directory(certs) == ("10.0.0.1", "docker.io", "reg.test:5000")
    assert registries_with_directory(certs / "not there") == ()


def test_a_setting_that_names_another_directory_is_a_warning(certs: Path) -> None:
    assert "does not read" in run_configure(certs, config_path="/other").warnings[0]
    assert "config_path is empty" in run_configure(certs, config_path="").warnings[0]
    assert run_configure(certs).warnings == ()


def test_an_address_of_ours_that_is_not_loopback_is_a_warning(certs: Path) -> None:
    report = run_configure(certs, registry_url="http://192.0.2.1:29020")
    assert "not a loopback address" in report.warnings[0]


class TestLinks:
    def test_a_linked_file_is_read_through_and_comes_back_as_a_link(self, certs: Path, folder: Path) -> None:
        target = folder / "managed.toml"
        write(target, '[host."https://m"]\n')
        (certs / "docker.io").mkdir()
        (certs / "docker.io/hosts.toml").symlink_to(target)
        before = snapshot(folder)
        run_configure(certs)
        assert [it.host for it in hosts_asked([certs], "docker.io", (2, 1))][1] == "m"
        assert target.read_text() == '[host."https://m"]\n'
        cleanup(certs)
        assert snapshot(folder) == before

    def test_a_link_to_nothing(self, certs: Path) -> None:
        (certs / "docker.io").mkdir()
        (certs / "docker.io/hosts.toml").symlink_to("nowhere")
        before = snapshot(certs)
        run_configure(certs)
        assert hosts_asked([certs], "docker.io", (2, 1))[0] == MIRROR
        cleanup(certs)
        assert snapshot(certs) == before

    def test_a_linked_directory_is_left_alone_with_a_warning(self, certs: Path) -> None:
        write(certs / "docker.io/hosts.toml", '[host."https://m"]\n')
        (certs / "ghcr.io").symlink_to("docker.io")
        before = snapshot(certs)
        report = run_configure(certs)
        assert actions(report)["ghcr.io"] is Action.SKIPPED
        assert "ghcr.io is a symbolic link" in report.warnings[0]
        cleanup(certs)
        assert snapshot(certs) == before

    def test_a_directory_that_became_a_link_is_not_followed(self, certs: Path) -> None:
        run_configure(certs)
        shutil.rmtree(certs / "ghcr.io")
        (certs / "ghcr.io").symlink_to("docker.io")
        report = run_configure(certs)
        assert [change.action for change in report.changes if change.registry == "ghcr.io"] == [
            Action.SKIPPED
        ]
        assert hosts_asked([certs], "docker.io", (2, 1))[-1] == FALLBACK
        cleanup(certs)
        assert snapshot(certs).keys() == {"ghcr.io"}


def test_the_model_of_containerd_on_files_that_are_known(certs: Path) -> None:
    """The judge of the tests above, judged by hand."""
    write(
        certs / "_default/hosts.toml", 'server = "m.example"\ncapabilities = ["pull"]\n[host."http://h/a/"]\n'
    )
    host = Asked("http", "h", "/a/v2", ALL, (), (), None, "[]", "", "[]")
    server = Asked("https", "m.example", "/v2", frozenset({"pull"}), (), (), None, "[]", "", "[]")
    assert hosts_asked([certs], "ghcr.io:5000", (2, 1)) == [host, server]
    write(certs / "ghcr.io_5000_/ca.crt", "PEM")
    (own,) = hosts_asked([certs], "ghcr.io:5000", (2, 1))
    assert (own.url, own.ca) == ("https://ghcr.io:5000/v2", (f"{certs}/ghcr.io_5000_/ca.crt",))
    (local,) = hosts_asked([certs / "none"], "localhost:5000", (2, 1))
    assert (local.url, local.skip_verify) == ("http://localhost:5000/v2", True)
