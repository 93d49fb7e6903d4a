"""Which Debian mirror a machine's apt sources name, for the shapes such files have in the wild."""

from pathlib import Path

import pytest

from tests.support.apt_sources import Mirror, debian_mirrors, security_mirrors

_DEB822 = """\
# Types: deb
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
# a comment between fields
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
_ARMOURED = """\
Types: deb
URIs: https://a.example/debian https://b.example/debian
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYB
 -----END PGP PUBLIC KEY BLOCK-----
"""
_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY865UxYJKwYB\n-----END PGP PUBLIC KEY BLOCK-----\n"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.mark.parametrize(
    ("name", "text", "mirrors"),
    [
        ("debian.sources", _DEB822, [Mirror("http://mirror.example/debian", _KEYRING)]),
        (
            "inline.sources",
            _ARMOURED,
            [Mirror("https://a.example/debian", _KEY), Mirror("https://b.example/debian", _KEY)],
        ),
        ("off.sources", _DEB822.replace("Types: deb deb-src", "Types: deb\nEnabled: no"), []),
        ("source-only.sources", _DEB822.replace("Types: deb deb-src", "Types: deb-src"), []),
        ("ubuntu.sources", _DEB822.replace("bookworm", "noble"), []),
        (
            "a.list",
            "deb http://mirror.example/debian trixie main # all\n",
            [Mirror("http://mirror.example/debian", "")],
        ),
        (
            "b.list",
            "deb [arch=amd64 signed-by=/etc/k.gpg] http://mirror.example/debian/ sid contrib main\n",
            [Mirror("http://mirror.example/debian/", "/etc/k.gpg")],
        ),
        (
            "c.list",
            "# deb http://mirror.example/debian trixie main\ndeb-src http://x.example/debian sid main\n",
            [],
        ),
        # A vendor's repository with a Debian suite's name: without main, and with it.
        ("d.list", "deb https://vendor.example/linux/debian bookworm stable\n", []),
        (
            "e.list",
            "deb https://vendor.example bookworm main\ndeb http://mirror.example/debian bookworm main\n",
            [Mirror("http://mirror.example/debian", ""), Mirror("https://vendor.example", "")],
        ),
    ],
)
def test_mirrors_of_one_file(tmp_path: Path, name: str, text: str, mirrors: list[Mirror]) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    assert debian_mirrors(tmp_path) == mirrors


def test_sources_list_and_parts_are_both_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (tmp_path / "sources.list.d" / "two.sources").write_text(_ARMOURED)
    assert len(debian_mirrors(tmp_path)) == 3
    assert debian_mirrors(tmp_path / "nowhere") == []


def test_security_updates_come_from_an_archive_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(_DEB822)
    assert security_mirrors(tmp_path) == [Mirror("http://mirror.example/debian-security", "")]
    (tmp_path / "sources.list.d" / "debian.sources").write_text(_ARMOURED)
    assert security_mirrors(tmp_path) == []
