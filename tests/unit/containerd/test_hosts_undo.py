"""cleanup on real directories: to the byte where nobody touched them, and no edit lost where somebody did."""

import os
import shutil
from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.errors import (
    HostsError,
    HostsFileInvalid,
)
from containerd.hosts.report import Action
from tests.support.containerd_hosts import hosts_asked
from tests.support.hosts_runs import (
    actions,
    run_configure,
    write,
)
from tests.support.hosts_trees import snapshot
from tests.support.skips import require, root_or_missing


def test_cleanup_of_what_never_was(folder: Path) -> None:
    assert cleanup(folder / "certs.d").changes == ()
    (folder / "certs.d/docker.io").mkdir(parents=True)
    assert cleanup(folder / "certs.d").changes == ()
    assert (folder / "certs.d/docker.io").is_dir()


def test_cleanup_twice(certs: Path) -> None:
    write(certs / "docker.io/hosts.toml", 'server = "https://m.example"\n')
    before = snapshot(certs)
    run_configure(certs)
    assert actions(cleanup(certs))["docker.io"] is Action.RESTORED
    assert cleanup(certs).changes == ()
    assert snapshot(certs) == before


def test_a_restored_file_has_its_mode_owner_and_time(certs: Path) -> None:
    require(root_or_missing("giving a file to another owner"))
    file = certs / "docker.io/hosts.toml"
    write(file, 'server = "https://m.example"\n', 0o640)
    os.chown(file, 12, 34)
    os.utime(file, ns=(1, 1_500_000_000_123_456_789))
    before = snapshot(certs)
    run_configure(certs)
    status = file.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 12, 34)
    cleanup(certs)
    assert snapshot(certs) == before


class TestUserAfterUs:
    """What cleanup does with files that are not as we left them."""

    def test_a_file_that_was_edited_keeps_the_edit(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        write(file, '# one\nserver = "https://s"\n[host."https://m"]\n')
        run_configure(certs)
        file.write_text(file.read_text().replace("# one", "# two") + '[host."https://n"]\n')
        file.chmod(0o600)
        assert actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert file.read_text() == '# two\nserver = "https://s"\n[host."https://m"]\n[host."https://n"]\n'
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_mode_that_he_changed_stays_and_the_rest_is_restored(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        write(file, 'server = "https://s"\n')
        modified_ns = file.stat().st_mtime_ns
        run_configure(certs)
        file.chmod(0o600)
        assert actions(cleanup(certs))["docker.io"] is Action.RESTORED
        assert file.read_text() == 'server = "https://s"\n'
        assert (file.stat().st_mode & 0o777, file.stat().st_mtime_ns) == (0o600, modified_ns)

    def test_an_edit_that_is_no_toml_is_kept_too(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        write(file, 'server = "https://s"\n')
        run_configure(certs)
        file.write_bytes(file.read_bytes() + b"nonsense \xff\n")
        cleanup(certs)
        assert file.read_bytes() == b'server = "https://s"\nnonsense \xff\n'

    def test_a_file_that_was_replaced_stays(self, certs: Path) -> None:
        run_configure(certs)
        write(certs / "docker.io/hosts.toml", "# mine\n")
        assert actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert (certs / "docker.io/hosts.toml").read_text() == "# mine\n"

    def test_a_file_that_was_removed_stays_away(self, certs: Path) -> None:
        write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        run_configure(certs)
        (certs / "docker.io/hosts.toml").unlink()
        cleanup(certs)
        assert snapshot(certs).keys() == {"docker.io"}

    def test_what_was_added_to_a_file_of_ours_stays_and_so_does_its_directory(self, certs: Path) -> None:
        run_configure(certs)
        with (certs / "ghcr.io/hosts.toml").open("a") as file:
            file.write('[host."https://mine"]\n')
        write(certs / "docker.io/ca.crt", "PEM")
        cleanup(certs)
        assert snapshot(certs).keys() == {"ghcr.io", "ghcr.io/hosts.toml", "docker.io", "docker.io/ca.crt"}
        assert (certs / "ghcr.io/hosts.toml").read_text() == '[host."https://mine"]\n'

    def test_an_empty_file_of_the_user_comes_back_though_he_edited_our_block(self, certs: Path) -> None:
        file = certs / "docker.io/hosts.toml"
        write(file, "")
        run_configure(certs)
        file.write_text(file.read_text().replace('"1s"', '"2s"'))
        cleanup(certs)
        assert file.read_bytes() == b""

    def test_an_edit_in_our_block_does_not_make_the_file_his(self, certs: Path) -> None:
        run_configure(certs)
        file = certs / "docker.io/hosts.toml"
        file.write_text(file.read_text().replace('"1s"', '"2s"'))
        assert actions(run_configure(certs))["docker.io"] is Action.WRITTEN
        assert actions(cleanup(certs))["docker.io"] is Action.REMOVED
        assert list(certs.iterdir()) == []

    def test_a_mark_that_lost_its_partner_stops_cleanup_before_it_changes_anything(self, certs: Path) -> None:
        write(certs / "zz.example/hosts.toml", "")
        run_configure(certs, registries=["docker.io", "zz.example"])
        file = certs / "zz.example/hosts.toml"
        file.write_text(file.read_text().replace("# <<< peili\n", ""))
        before = snapshot(certs)
        with pytest.raises(HostsFileInvalid, match=r"zz.example/hosts.toml, line 1: .*without its partner"):
            cleanup(certs)
        assert snapshot(certs) == before

    def test_an_original_that_somebody_removed_is_made_from_the_file(self, certs: Path) -> None:
        text = '# one\nserver = "https://s"\n[host."https://m"]\n'
        write(certs / "docker.io/hosts.toml", text)
        run_configure(certs)
        shutil.rmtree(certs / "_peili/originals")
        assert actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert (certs / "docker.io/hosts.toml").read_text() == text

    def test_originals_of_earlier_edits_are_forgotten(self, certs: Path) -> None:
        for text in ("# one\n", "# two\n", "# three\n"):
            write(certs / "docker.io/hosts.toml", text)
            run_configure(certs)
        assert [path.read_text() for path in (certs / "_peili/originals").iterdir()] == ["# three\n"]


class TestWithoutManifest:
    def test_the_marks_tell_what_is_ours(self, certs: Path) -> None:
        text = '# one\nserver = "https://s"\n[host."https://m"]\n'
        write(certs / "docker.io/hosts.toml", text)
        run_configure(certs)
        shutil.rmtree(certs / "_peili")
        assert actions(cleanup(certs))["docker.io"] is Action.KEPT
        assert snapshot(certs).keys() == {"docker.io", "docker.io/hosts.toml"}
        assert (certs / "docker.io/hosts.toml").read_text() == text

    def test_a_stale_block_is_not_taken_for_text_of_the_user(self, certs: Path) -> None:
        write(certs / "_default/hosts.toml", '[host."https://d"]\n')
        run_configure(certs)
        shutil.rmtree(certs / "_peili")
        run_configure(certs, registry_url="http://127.0.0.1:1")
        assert [it.host for it in hosts_asked([certs], "ghcr.io", (2, 1))][:2] == ["127.0.0.1:1", "d"]
        cleanup(certs)
        assert (certs / "_default/hosts.toml").read_text() == '[host."https://d"]\n'
        assert not [path for path in certs.rglob("*") if path.is_file() and b"peili" in path.read_bytes()]

    @pytest.mark.parametrize("content", [b"{", b'{"version": 2}', b'{"entries": 1}'])
    def test_a_manifest_that_cannot_be_read_is_said(self, certs: Path, content: bytes) -> None:
        run_configure(certs)
        (certs / "_peili/manifest.json").write_bytes(content)
        before = snapshot(certs)
        for run in (run_configure, cleanup):
            with pytest.raises(HostsError, match=r"manifest.json: .*cleanup again"):
                run(certs)
        assert snapshot(certs) == before
