"""Why a test did not run: skips with a reason code, a list of them at the end, and an assertion about them.

Loaded as a pytest plugin (by `tests/conftest.py`). TEST_EXPECT_SKIPS holds the reason codes, separated by
commas, that must occur in this session; any other skip fails it, and so does one that did not occur. Empty
means no skip at all, and so does CI=true by itself. Unset outside CI: skips are only listed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.support.debs import tool
from tests.support.missing import NO_NETNS, NO_ROOT, UNCODED, Missing, parse_missing

EXPECTED: Final = "TEST_EXPECT_SKIPS"
# What a namespaced bed runs. bridge and tc come with iproute2, nsenter and setpriv with util-linux.
_NETNS_PROGRAMS: Final = ("ip", "tc", "nsenter", "setpriv")
_CAP_SYS_ADMIN: Final = 21
_CAP_NET_ADMIN: Final = 12

T = TypeVar("T")


def require(found: T | Missing) -> T:
    """`found`, or skip the test with its reason."""
    if isinstance(found, Missing):
        pytest.skip(str(found))
    return found


def tool_bin(name: str) -> Path:
    """The `bin` folder of a tool of `tests.support.debs`, or skip."""
    return require(tool(name)) / "bin"


def root_or_missing(what: str = "a real containerd") -> Missing | None:
    if os.geteuid() == 0:
        return None
    return Missing(NO_ROOT, f"{what} needs root.", "run the tests as root, in a machine you may break.")


def netns_or_missing() -> Missing | None:
    """Whether this process may make network namespaces; looks, and makes none."""
    if (missing := root_or_missing()) is not None:
        return Missing(NO_ROOT, "network namespaces need root.", missing.enable)
    lacking = [program for program in _NETNS_PROGRAMS if not _on_path(program)]
    if lacking:
        return Missing(NO_NETNS, f"not installed: {', '.join(lacking)}.", "install iproute2 and util-linux.")
    status = Path("/proc/self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    if not effective >> _CAP_SYS_ADMIN & effective >> _CAP_NET_ADMIN & 1:
        return Missing(
            NO_NETNS, "root without CAP_SYS_ADMIN and CAP_NET_ADMIN.", "run outside the container."
        )
    return None


def _on_path(program: str) -> bool:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(Path(folder) / program, os.X_OK) for folder in folders)


def expectation(environment: dict[str, str]) -> frozenset[str] | None:
    """The reason codes that must occur; None if nothing is asserted."""
    text = environment.get(EXPECTED)
    if text is None:
        return frozenset() if environment.get("CI", "").lower() in ("1", "true") else None
    return frozenset(code.strip() for code in text.split(",") if code.strip())


def verdict(expected: frozenset[str], seen: frozenset[str]) -> list[str]:
    """What is wrong with the skips of a session, one sentence each."""
    return [
        f"skips with the reason {code} occurred and were not expected" for code in sorted(seen - expected)
    ] + [f"skips with the reason {code} were expected and did not occur" for code in sorted(expected - seen)]


@dataclass(slots=True)
class _Skips:
    """suites: (file, what is missing) to the number of its tests that did not run."""

    suites: Counter[tuple[str, Missing]] = field(default_factory=Counter)

    def add(self, nodeid: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        if hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
            return
        text = report.longrepr[2].removeprefix("Skipped: ")
        self.suites[nodeid.split("::")[0], parse_missing(text)] += 1

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(missing.code for _, missing in self.suites)


_SKIPS: Final = pytest.StashKey[_Skips]()


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPS] = skips = _Skips()
    config.pluginmanager.register(_Recorder(skips))


class _Recorder:
    """A plugin object of its own, since report hooks are not given the config."""

    def __init__(self, skips: _Skips) -> None:
        self._skips = skips

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skips.add(report.nodeid, report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skips.add(report.nodeid, report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Before fixtures are set up: they would fail on what is missing.
    if item.get_closest_marker("netns") is not None and (missing := netns_or_missing()) is not None:
        pytest.skip(str(missing))
    if item.get_closest_marker("containerd") is not None and (missing := root_or_missing()) is not None:
        pytest.skip(str(missing))


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    expected = expectation(dict(os.environ))
    if expected is None or session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return
    if verdict(expected, session.config.stash[_SKIPS].codes):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    skips = config.stash[_SKIPS]
    if skips.suites:
        terminalreporter.section("suites that could not run")
        for (suite, missing), count in sorted(skips.suites.items(), key=lambda item: item[0][0]):
            tests = "1 test" if count == 1 else f"{count} tests"
            terminalreporter.line(f"{suite}: {tests} [{missing.code}] {missing.reason}")
            if missing.enable:
                terminalreporter.line(f"    to enable: {missing.enable}")
    expected = expectation(dict(os.environ))
    for complaint in verdict(expected, skips.codes) if expected is not None else []:
        terminalreporter.line(f"ERROR: {complaint} ({EXPECTED}={','.join(sorted(expected or ()))})", red=True)


__all__ = [
    "UNCODED",
    "expectation",
    "netns_or_missing",
    "pytest_configure",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "require",
    "root_or_missing",
    "tool_bin",
    "verdict",
]
