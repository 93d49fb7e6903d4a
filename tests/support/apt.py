"""apt with one suite and a state of its own, on the mirror that the machine's own sources name.

Answers which packages a suite has and fetches them, checked against the signed index. The machine's package state is
neither read nor written, and nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.apt_sources import Mirror, debian_mirrors, security_mirrors

# An index is 9 to 11 MB; past this the mirror is not answering.
APT_TIMEOUT_S: Final = 300.0


class FetchError(Exception):
    """A package could not be fetched; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Apt:
    """apt with one suite and a private state; the machine's package state is neither read nor written."""

    config: Path
    downloads: Path

    @classmethod
    def for_suite(
        cls, suite: str, scratch: Path, etc_apt: Path, *, architecture: str = "", with_security: bool = False
    ) -> Apt:
        """architecture: the machine's where empty. with_security: of the suite's security updates, too, where the
        machine's sources name their mirror. Raises: FetchError."""
        mirrors = debian_mirrors(etc_apt)
        if not mirrors or shutil.which("apt-get") is None:
            raise FetchError(no_sources())
        complaints: list[str] = []
        for number, mirror in enumerate(mirrors):
            lines = [(mirror, suite)]
            if with_security:
                lines += [(one, f"{suite}-security") for one in security_mirrors(etc_apt)[:1]]
            apt = cls._with_mirrors(lines, scratch / f"apt{number}", architecture)
            try:
                apt._run("apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
            except FetchError as error:
                complaints.append(str(error))
            else:
                return apt
        raise FetchError(
            f"apt cannot read Debian {suite} from this machine's mirror: {' / '.join(complaints)}"
        )

    @classmethod
    def _with_mirrors(cls, lines: Sequence[tuple[Mirror, str]], home: Path, architecture: str) -> Apt:
        for folder in ("state/lists/partial", "cache/archives/partial", "empty", "downloads"):
            (home / folder).mkdir(parents=True)
        (home / "status").touch()
        architecture = architecture or native_architecture()
        sources = ""
        for number, (mirror, suite) in enumerate(lines):
            options = f"arch={architecture}"
            if "BEGIN PGP" in mirror.signed_by:
                key = home / f"key{number}.asc"
                key.write_text(mirror.signed_by)
                options += f" signed-by={key}"
            elif mirror.signed_by:
                options += f" signed-by={mirror.signed_by}"
            sources += f"deb [{options}] {mirror.uri} {suite} main\n"
        (home / "sources.list").write_text(sources)
        # Proxies, timeouts and date checks are the machine's; its hooks and extra indices are left out.
        acquire = [
            line
            for line in run(["apt-config", "dump"]).splitlines()
            if line.startswith("Acquire::")
            and not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))
        ]
        settings = {
            "Dir::State": home / "state",
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": home / "empty",
            "Dir::Etc::parts": home / "empty",
            "Dir::Etc::main": home / "no-such-file",
            "Acquire::Languages": "none",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "",  # else root downloads as a user that cannot write here
        }
        config = home / "apt.conf"
        config.write_text(
            "\n".join([*acquire, *(f'{key} "{value}";' for key, value in settings.items()), ""])
        )
        return cls(config, home / "downloads")

    def download(self, package: str) -> Path:
        """apt checks the file against the signed index. Raises: FetchError."""
        (deb,) = self.download_all([package])
        return deb

    def download_all(self, packages: Sequence[str]) -> list[Path]:
        """Each as `download`, in one run, in no order. Raises: FetchError."""
        # In a folder of their own: apt says nothing of a file that is there already, as two tools' libraries may be.
        folder = Path(tempfile.mkdtemp(dir=self.downloads))
        self._run("apt-get", "download", "-qq", *packages, folder=folder)
        return sorted(folder.iterdir())

    def _run(self, *command: str, folder: Path | None = None) -> str:
        environment = {"APT_CONFIG": str(self.config), "LC_ALL": "C"}
        return run(command, cwd=folder or self.downloads, environment=environment)


def run(command: Sequence[str], cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            check=True,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
        ).stdout
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in str(error.stderr).splitlines() if line.strip()]
        raise FetchError(f"{command[0]} {command[1]} failed: {' '.join(lines[-4:])}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{command[0]} cannot be run: {error}") from error


def no_sources() -> str:
    if shutil.which("apt-get") is None:
        return "this machine has no apt."
    return "no entry of this machine's apt sources names a Debian suite."


def native_architecture() -> str:
    """Debian's name for this machine's. Raises: FetchError."""
    return run(["dpkg", "--print-architecture"]).strip()
