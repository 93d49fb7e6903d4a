"""Real daemons for the tests: Debian packages unpacked below `.tools/`, never installed on the machine.

`python -m tests.support.debs [NAME...]` fetches them with an apt state of its own; `tool()` says where one is
and never downloads. The mirror and its keys come from the machine's apt sources (`apt_sources`).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.support.apt import Apt, FetchError, no_sources, run
from tests.support.apt_sources import debian_mirrors
from tests.support.missing import NO_DEBIAN_SOURCES, NO_TOOLS, Missing

ETC_APT: Final = Path("/etc/apt")
TOOLS: Final = Path(__file__).resolve().parents[2] / ".tools"
DEBIAN: Final = "use a Debian machine or container, or add a Debian entry to apt's sources."
FETCH: Final = "run `python -m tests.support.debs` in the checkout (network access needed)."
_SCRATCH: Final = ".unpacking-"


@dataclass(frozen=True, slots=True)
class Recipe:
    suite: str
    package: str
    executables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One line of versions.json. debs: file name to SHA-256."""

    suite: str
    package: str
    version: str
    debs: dict[str, str]


_CONTAINERD: Final = ("containerd", "ctr", "containerd-shim-runc-v2")
# The name says the role: sid moves on, and versions.json holds the true version.
RECIPES: Final[dict[str, Recipe]] = {
    # Without it, Podman does nothing.
    "conmon": Recipe("bookworm", "conmon", ("conmon",)),
    "containerd-1.6": Recipe("bookworm", "containerd", _CONTAINERD),
    "containerd-1.7": Recipe("trixie", "containerd", _CONTAINERD),
    "containerd-2.1": Recipe("sid", "containerd", _CONTAINERD),
    # 28 or later, with containerd's image store in it.
    "docker": Recipe("sid", "docker.io", ("dockerd",)),
    "dnsmasq": Recipe("bookworm", "dnsmasq-base", ("dnsmasq",)),
    "docker-registry": Recipe("bookworm", "docker-registry", ("docker-registry",)),
    "etcd": Recipe("bookworm", "etcd-server", ("etcd",)),
    # A firewall for tests, in namespaces of their own.
    "nftables": Recipe("bookworm", "nftables", ("nft",)),
    "nginx": Recipe("bookworm", "nginx", ("nginx",)),
    "podman": Recipe("bookworm", "podman", ("podman",)),
    "prometheus": Recipe("bookworm", "prometheus", ("promtool",)),
    # What containerd starts containers with; 1.1 is enough for each of the containerds above.
    "runc": Recipe("bookworm", "runc", ("runc",)),
    "skopeo": Recipe("bookworm", "skopeo", ("skopeo",)),
    # To read units, and to be PID 1 of a bed's host where the machine has none.
    "systemd": Recipe("bookworm", "systemd", ("systemctl", "journalctl", "systemd-analyze")),
    "wrk": Recipe("bookworm", "wrk", ("wrk",)),
}


def tool(name: str, tools: Path = TOOLS, etc_apt: Path = ETC_APT) -> Path | Missing:
    """The folder of an unpacked tool; its `bin/` holds the recipe's executables, ready to run."""
    if name not in RECIPES:
        raise ValueError(f"no recipe for {name!r}; there are {', '.join(RECIPES)}")
    if name in _unpacked(tools):
        return tools / name
    if not debian_mirrors(etc_apt) or shutil.which("apt-get") is None:
        return Missing(NO_DEBIAN_SOURCES, f"{name} is fetched from a Debian mirror; {no_sources()}", DEBIAN)
    return Missing(NO_TOOLS, f"{name} is not unpacked below {tools.name}/.", FETCH)


def version(name: str, tools: Path = TOOLS) -> str:
    """The Debian version of an unpacked tool; KeyError if it is not unpacked."""
    return _unpacked(tools)[name].version


def fetch(names: Sequence[str], tools: Path = TOOLS, etc_apt: Path = ETC_APT) -> dict[str, FetchError]:
    """Fetch what is not there yet, suites in parallel; returns what failed. Safe to run twice at once."""
    tools.mkdir(exist_ok=True)
    with _lock(tools):
        for leftover in tools.glob(f"{_SCRATCH}*"):  # of a run that was killed
            shutil.rmtree(leftover)
        done = _unpacked(tools)
        by_suite: dict[str, list[str]] = {}
        for name in names:
            if name not in done:
                by_suite.setdefault(RECIPES[name].suite, []).append(name)
        if not by_suite:
            return {}
        failed: dict[str, FetchError] = {}
        with ThreadPoolExecutor(len(by_suite)) as pool:
            for names_failed, unpacked in pool.map(
                lambda item: _fetch_suite(item[0], item[1], tools, etc_apt), by_suite.items()
            ):
                failed |= names_failed
                done |= unpacked
        _write_versions(tools, done)
        return failed


def _fetch_suite(
    suite: str, names: list[str], tools: Path, etc_apt: Path
) -> tuple[dict[str, FetchError], dict[str, Unpacked]]:
    failed: dict[str, FetchError] = {}
    unpacked: dict[str, Unpacked] = {}
    with tempfile.TemporaryDirectory(dir=tools, prefix=_SCRATCH) as scratch:
        try:
            apt = Apt.for_suite(suite, Path(scratch), etc_apt)
        except FetchError as error:
            return dict.fromkeys(names, error), {}
        for name in names:
            try:
                unpacked[name] = _unpack(apt, RECIPES[name], Path(scratch) / name, tools / name)
            except FetchError as error:
                failed[name] = error
    return failed, unpacked


def _unpack(apt: Apt, recipe: Recipe, scratch: Path, target: Path) -> Unpacked:
    scratch.mkdir()
    deb = apt.download(recipe.package)
    debs = [deb]
    _extract(deb, scratch)
    found = {name: _executable(scratch, name) for name in recipe.executables}
    needs_libraries = [path for path in found.values() if _missing_libraries(path, "")]
    library_path = ""
    if needs_libraries:
        lacking = [line for path in needs_libraries for line in _missing_libraries(path, "")]
        libraries = _libraries(deb)
        for library in libraries:  # grows by what each of them needs itself
            debs.append(apt.download(library))
            _extract(debs[-1], scratch / "lib.d")
            folders = sorted({path.parent for path in (scratch / "lib.d").rglob("*.so*")})
            library_path = ":".join(f"$here/{folder.relative_to(scratch)}" for folder in folders)
            found_in = ":".join(map(str, folders))
            lacking = [line for path in needs_libraries for line in _missing_libraries(path, found_in)]
            if not lacking:
                break
            libraries += [name for name in _libraries(debs[-1]) if name not in libraries]
        if lacking:
            raise FetchError(f"{recipe.package} of Debian {recipe.suite} lacks {'; '.join(lacking)}.")
    bin_folder = scratch / "bin"
    bin_folder.mkdir()
    for name, path in found.items():
        inside = path.relative_to(scratch)
        if path in needs_libraries:
            # exec keeps the pid, so the caller can still signal what it started.
            (bin_folder / name).write_text(
                '#!/bin/sh\nhere=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
                f'LD_LIBRARY_PATH="{library_path}" exec "$here/{inside}" "$@"\n'
            )
            (bin_folder / name).chmod(0o755)
        else:
            (bin_folder / name).symlink_to(Path("..") / inside)
    if target.exists():
        shutil.rmtree(target)
    scratch.rename(target)
    return Unpacked(
        recipe.suite,
        recipe.package,
        run(["dpkg-deb", "-f", str(deb), "Version"]).strip(),
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in debs},
    )


def _extract(deb: Path, root: Path) -> None:
    """Older packages have /bin and /lib of their own; all machines have them below /usr by now. (Our own `bin` would be
    in their way.)"""
    run(["dpkg-deb", "-x", str(deb), str(root)])
    for name in ("bin", "sbin", "lib", "lib64"):
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)


def _executable(root: Path, name: str) -> Path:
    for folder in ("usr/bin", "usr/sbin"):
        if (root / folder / name).is_file():
            return root / folder / name
    raise FetchError(
        f"the package holds no executable {name}; its recipe in {Path(__file__).name} is out of date."
    )


def _missing_libraries(executable: Path, library_path: str) -> list[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": library_path, "LC_ALL": "C"}
    result = subprocess.run(
        ["ldd", str(executable)], capture_output=True, text=True, check=False, env=environment
    )
    return [line.strip() for line in (result.stdout + result.stderr).splitlines() if "not found" in line]


def _libraries(deb: Path) -> list[str]:
    return [name for name in _dependencies(deb) if name.startswith("lib") and name != "libc6"]


def _dependencies(deb: Path) -> list[str]:
    """First alternative of each direct dependency."""
    field = run(["dpkg-deb", "-f", str(deb), "Depends"])
    return [
        word.split("|")[0].split("(")[0].split(":")[0].strip() for word in field.split(",") if word.strip()
    ]


def _unpacked(tools: Path) -> dict[str, Unpacked]:
    """What versions.json records and the current recipes still ask for."""
    found: dict[str, Unpacked] = {}
    for name, line in _lines(tools).items():
        recipe = RECIPES.get(name)
        debs = line.get("debs")
        if recipe is None or not isinstance(debs, dict) or not (tools / name / "bin").is_dir():
            continue
        if (line.get("suite"), line.get("package")) == (recipe.suite, recipe.package):
            found[name] = Unpacked(recipe.suite, recipe.package, str(line.get("version")), debs)
    return found


def _lines(tools: Path) -> dict[str, dict[str, object]]:
    try:
        lines: dict[str, dict[str, object]] = json.loads((tools / "versions.json").read_text())
    except FileNotFoundError:
        return {}
    return lines


def _write_versions(tools: Path, unpacked: dict[str, Unpacked]) -> None:
    temporary = tools / "versions.json.new"
    # Another checkout that shares this folder may know more recipes.
    others = {name: line for name, line in _lines(tools).items() if name not in RECIPES}
    lines = {**others, **{name: asdict(one) for name, one in unpacked.items()}}
    temporary.write_text(json.dumps(dict(sorted(lines.items())), indent=2) + "\n")
    temporary.rename(tools / "versions.json")


@contextmanager
def _lock(tools: Path) -> Iterator[None]:
    with (tools / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch the real daemons that the integration tests run.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all if none is given: {', '.join(RECIPES)}"
    )
    names = parser.parse_args(arguments).names or list(RECIPES)
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe for {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    failed = fetch(names)
    for name in names:
        print(f"{name}: {failed[name]}" if name in failed else f"{name}: {version(name)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
