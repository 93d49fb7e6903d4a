"""The skip mechanism, in sessions of its own: it decides whether a session may be called green."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.missing import NO_TOOLS, UNCODED, Missing, parse_missing
from tests.support.skips import expectation, require, verdict

_ROOT = Path(__file__).resolve().parents[2]
_SUITE = """
import pytest
from tests.support.missing import NO_TOOLS, Missing
from tests.support.skips import require

def test_runs(): pass
def test_lacks_a_tool(): require(Missing(NO_TOOLS, "frobnicator is not there.", "make tools"))
def test_lacks_it_as_well(): require(Missing(NO_TOOLS, "frobnicator is not there.", "make tools"))
"""
_FAILING = "def test_fails(): assert False\n"


def _session(folder: Path, suite: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\n")
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "TEST_EXPECT_SKIPS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.skips", "--rootdir", folder, folder],
        env=kept | {"PYTHONPATH": str(_ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "environment", "exit_code", "said"),
    [
        (
            _SUITE,
            {},
            0,
            "test_suite.py: 2 tests [no-tools] frobnicator is not there.\n    to enable: make tools",
        ),
        (_SUITE, {"TEST_EXPECT_SKIPS": "no-tools"}, 0, "2 tests [no-tools]"),
        (_SUITE, {"TEST_EXPECT_SKIPS": ""}, 1, "reason no-tools occurred and were not expected"),
        (_SUITE, {"CI": "true"}, 1, "reason no-tools occurred and were not expected"),
        (
            _SUITE,
            {"TEST_EXPECT_SKIPS": "no-tools,no-root"},
            1,
            "reason no-root were expected and did not occur",
        ),
        (_SUITE + _FAILING, {"TEST_EXPECT_SKIPS": "no-tools"}, 1, "1 failed"),
        (
            "import pytest\npytest.skip('later', allow_module_level=True)\n",
            {"CI": "true"},
            1,
            "[uncoded] later",
        ),
        ("import pytest\n@pytest.mark.xfail\ndef test_x(): assert False\n", {"CI": "true"}, 0, "1 xfailed"),
    ],
)
def test_a_session_with_skips(
    tmp_path: Path, suite: str, environment: dict[str, str], exit_code: int, said: str
) -> None:
    session = _session(tmp_path, suite, **environment)
    assert (session.returncode, said in session.stdout) == (exit_code, True), session.stdout + session.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"CI": "false"}, None),
        ({"CI": "true"}, frozenset()),
        ({"CI": "true", "TEST_EXPECT_SKIPS": "no-root"}, frozenset({"no-root"})),
        ({"TEST_EXPECT_SKIPS": " no-root , no-netns,"}, frozenset({"no-root", "no-netns"})),
    ],
)
def test_expectation(environment: dict[str, str], expected: frozenset[str] | None) -> None:
    assert expectation(environment) == expected


def test_verdict_names_both_sides() -> None:
    complaints = verdict(frozenset({"a", "b"}), frozenset({"b", "c"}))
    assert [("reason c occurred" in line, "reason a were expected" in line) for line in complaints] == [
        (True, False),
        (False, True),
    ]


def test_missing_survives_the_skip_text() -> None:
    missing = Missing(NO_TOOLS, "containerd-2.1 is not unpacked.", "run it: now.")
    assert parse_missing(str(missing)) == missing
    assert parse_missing(str(Missing(NO_TOOLS, "No more."))) == Missing(NO_TOOLS, "No more.")
    assert parse_missing("unconditional skip").code == UNCODED


def test_require_gives_what_is_there(tmp_path: Path) -> None:
    assert require(tmp_path) is tmp_path
    with pytest.raises(pytest.skip.Exception, match=r"\[no-tools\]"):
        require(Missing(NO_TOOLS, "gone."))
