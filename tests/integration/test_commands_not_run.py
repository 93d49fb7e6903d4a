"""Commands of the documentation that nobody runs here (tests/support/command_table.py): the targets, flags, values and
objects that they name are there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from mirror.cli.main import peili
from tests.support.command_hosts import shell
from tests.support.command_table import MENTION, STATUS, TABLE, Elsewhere, NotRun, rows
from tests.support.helm_chart import Object, objects
from tests.support.helm_tools import helm
from tests.support.missing import NO_TOOLS, Missing
from tests.support.skips import require

ROOT: Final = Path(__file__).resolve().parents[2]


@cache
def golden() -> list[Object]:
    return objects((ROOT / "tests/chart/golden/default.yaml").read_text())


def part_of(it: Object) -> str:
    return str(it["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.mark.parametrize("text", rows("kubectl"))
def test_kubectl_is_told_of_objects_that_the_chart_makes(text: str) -> None:
    namespaces = re.findall(r"(?:-n|--namespace|namespace) (\S+)", text)
    assert namespaces and set(namespaces) == {it["metadata"]["namespace"] for it in golden()}
    row = TABLE[text]
    if isinstance(row, NotRun):
        for named in row.objects:
            assert named.partition("/")[2] in text
            assert named in {f"{it['kind']}/{it['metadata']['name']}" for it in golden()}
    selector = re.search(r"app\.kubernetes\.io/component(?:=| in \()([a-z,-]+)", text)
    assert (" -l " in text) is (selector is not None)
    if selector:
        chosen = selector[1].split(",")
        assert set(chosen) <= {part_of(it) for it in golden()}
        if kinds := re.search(r" delete (\S+)", text):
            # Nothing of the same part is left.
            assert {str(it["kind"]).lower() for it in golden() if part_of(it) in chosen} == set(
                kinds[1].split(",")
            )


def test_the_port_that_is_forwarded_is_the_one_that_is_asked() -> None:
    assert "kubectl -n peili-system port-forward POD 29022" in TABLE and ":29022/" in STATUS


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("text", rows("helm", Elsewhere, NotRun))
def test_helm_takes_what_it_is_told(text: str, major: int, tmp_path: Path) -> None:
    binaries = require(helm(major)).parent
    words = shlex.split(text)
    if words[:2] == ["helm", "install"]:
        # The same flags and values, rendered and not installed.
        (tmp_path / "helm").symlink_to(ROOT / "helm")
        done = shell(text.replace("helm install", "helm template", 1), tmp_path, binaries)
        assert done.returncode == 0 and "kind: DaemonSet" in done.stdout, done.stderr
    help_text = shell(f"helm {words[1]} --help", tmp_path, binaries).stdout
    for flag in [word.partition("=")[0] for word in words if word.startswith("--")]:
        assert re.search(rf"{flag}\b", help_text), flag


# --- What needs minutes


@pytest.mark.parametrize("text", rows("make"))
def test_make_has_the_target_and_its_module_the_flags(text: str) -> None:
    if shutil.which("make") is None:
        require(Missing(NO_TOOLS, "make is not installed.", "install make."))
    words = [word for word in shlex.split(text) if not re.match(r"[A-Z_]+=", word)]
    done = shell(text.replace("make ", "make --dry-run --no-print-directory ", 1), ROOT)
    assert words[0] == "make" and len(words) == 2
    # Where there is no rule, .PHONY alone makes a target.
    assert done.returncode == 0 and "Nothing to be done" not in done.stdout, done.stdout + done.stderr
    flags = re.findall(r"--[a-z-]+", text.partition("ARGS=")[2])
    if flags:
        (module,) = re.findall(r"-m (tests\.\S+)", done.stdout.splitlines()[-1])  # after the set-up
        help_text = shell(f"{sys.executable} -m {module} --help", ROOT).stdout
        for flag in flags:
            assert f"{flag} " in help_text, flag


@pytest.mark.parametrize("text", rows("peili"))
def test_peili_takes_what_it_is_told(text: str) -> None:
    _, name, *flags = shlex.split(text.partition(">")[0])
    with click.Context(peili) as context:
        command = peili.get_command(context, name)
    if name in ("seed", "scheduler"):
        assert command is None
        return
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {flag for flag in flags if flag.startswith("--")} <= known
    if TABLE[text] != NotRun(MENTION):
        command.make_context(name, flags)


def test_the_scripts_that_are_named_are_there() -> None:
    script, lock = ["requirements/venv.sh", "run"]
    assert (ROOT / script).stat().st_mode & 0o111 and (ROOT / "requirements" / f"{lock}.txt").exists()
    (module,) = [text.split()[-1] for text in TABLE if text.startswith(".venv/bin/python -m ")]
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
