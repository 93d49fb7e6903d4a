"""config_path is a list: split by 1.x and by local pulls, one literal path in transfer-service mode."""

import shutil
from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.report import Report
from tests.support.containerd_hosts import hosts_asked
from tests.support.hosts_runs import (
    MIRROR,
    NAMED,
    run_configure,
    write,
)
from tests.support.hosts_trees import snapshot


class TestList:
    """config_path is a list: split by 1.x and by local pulls, one literal path in transfer-service mode."""

    @pytest.fixture
    def docker(self, folder: Path) -> Path:
        return folder / "etc/docker/certs.d"

    @pytest.fixture
    def literal(self, certs: Path, docker: Path) -> Path:
        return Path(f"{certs}:{docker}")

    def _run(self, certs: Path, docker: Path) -> Report:
        return run_configure(certs, config_path=f"{certs}:{docker}")

    def test_the_literal_path_has_the_same(self, certs: Path, docker: Path, literal: Path) -> None:
        write(certs / "docker.io/hosts.toml", 'ca = "a.crt"\n[host."https://m"]\nca = "b.crt"\n')
        write(certs / "_default/hosts.toml", '[host."https://d"]\nca = "c.crt"\n')
        self._run(certs, docker)
        for name in [*NAMED, "quay.io"]:
            assert hosts_asked([literal], name, (2, 1)) == hosts_asked([certs, docker], name, (2, 1))
        assert hosts_asked([literal], "docker.io", (2, 1))[1].ca == (f"{certs}/docker.io/b.crt",)

    def test_a_text_of_the_user_in_the_literal_path_counts_there(
        self, certs: Path, docker: Path, literal: Path
    ) -> None:
        write(certs / "docker.io/hosts.toml", '[host."https://m"]\n')
        write(literal / "docker.io/hosts.toml", '[host."https://literal"]\n')
        self._run(certs, docker)
        assert hosts_asked([literal], "docker.io", (2, 1))[1].host == "literal"
        assert hosts_asked([certs], "docker.io", (2, 1))[1].host == "m"

    def test_our_default_does_not_hide_what_stands_in_a_later_directory(
        self, certs: Path, docker: Path
    ) -> None:
        write(docker / "priv.example:5000/ca.crt", "PEM")
        write(docker / "10.0.0.5:5000/hosts.toml", 'server = "http://10.0.0.5:5000"\n[host."http://m"]\n')
        write(docker / "_default/hosts.toml", '[host."https://d"]\n')
        write(docker / "ghcr.io/hosts.toml", '[host."https://g"]\nca = "g.crt"\n')
        names = ["priv.example:5000", "10.0.0.5:5000", "quay.io"]
        before = {name: hosts_asked([certs, docker], name, (2, 1)) for name in [*names, "ghcr.io"]}
        tree = snapshot(certs.parent.parent)
        self._run(certs, docker)
        for name in names:
            assert hosts_asked([certs, docker], name, (2, 1)) == [MIRROR, *before[name]]
        assert hosts_asked([certs, docker], "ghcr.io", (2, 1))[1:-1] == before["ghcr.io"]
        assert before["ghcr.io"][0].ca == (f"{docker}/ghcr.io/g.crt",)
        # What is hidden no more needs no directory in front of it.
        shutil.rmtree(docker / "priv.example:5000")
        self._run(certs, docker)
        assert not (certs / "priv.example:5000").exists()
        write(docker / "priv.example:5000/ca.crt", "PEM")
        cleanup(certs)
        assert tree.keys() == snapshot(certs.parent.parent).keys()

    def test_what_stands_in_both_is_left_alone_if_nobody_named_it(self, certs: Path, docker: Path) -> None:
        for root in (certs, docker):
            write(root / "10.0.0.5:5000/hosts.toml", f'server = "http://{root.parent.name}"\n')
        self._run(certs, docker)
        assert (certs / "10.0.0.5:5000/hosts.toml").read_text() == 'server = "http://containerd"\n'

    def test_a_list_that_became_a_directory(self, certs: Path, docker: Path, literal: Path) -> None:
        before = snapshot(certs.parent.parent)
        self._run(certs, docker)
        assert (literal / "docker.io/hosts.toml").exists()
        run_configure(certs)
        assert not (certs.parent / "certs.d:").exists()
        assert (certs / "docker.io/hosts.toml").exists()
        cleanup(certs)
        assert snapshot(certs.parent.parent) == before

    def test_an_earlier_directory_of_the_list_wins_and_that_is_said(self, certs: Path, docker: Path) -> None:
        write(certs / "ghcr.io/hosts.toml", '[host."https://m"]\n')
        write(docker / "ghcr.io/hosts.toml", '[host."https://never-asked"]\n')
        report = run_configure(docker, config_path=f"{certs}:{docker}")
        assert hosts_asked([docker], "ghcr.io", (2, 1))[1].host == "never-asked"
        assert [it for it in report.warnings if "ghcr.io is not mirrored" in it]
        assert not [it for it in report.warnings if "docker.io is not" in it]

    def test_unknown_from_2_2_on(self, certs: Path) -> None:
        run_configure(certs, config_path=None, containerd_version=(2, 1))
        default_list = Path(f"{certs}:/etc/docker/certs.d")
        assert not default_list.exists()
        run_configure(certs, config_path=None, containerd_version=(2, 2))
        assert hosts_asked([default_list], "docker.io", (2, 1))[0] == MIRROR

    def test_seen_through_another_mount(self, folder: Path, certs: Path, docker: Path) -> None:
        """Written from where /etc is mounted elsewhere, undone from where it is not."""
        before = snapshot(folder)
        run_configure(certs, config_path="/etc/containerd/certs.d:/etc/docker/certs.d")
        assert Path(f"{certs}:/etc/docker/certs.d/docker.io/hosts.toml").exists()
        moved = folder / "elsewhere"
        (folder / "etc").rename(moved)
        cleanup(moved / "containerd/certs.d")
        moved.rename(folder / "etc")
        assert snapshot(folder) == before
