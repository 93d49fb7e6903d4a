"""The Dockerfile, which cannot be built here, says the same as `make image`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mirror.version import VERSION
from tests.image import recipe
from tests.image.layout import Source, platform_image

ROOT = Path(__file__).resolve().parents[3]


def instructions() -> list[tuple[str, str]]:
    """In order, comments left out and continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def values(name: str) -> list[str]:
    return [value for one, value in last_stage() if one == name]


def test_its_first_line_says_that_it_is_not_built() -> None:
    assert "Never built where this project is tested" in (ROOT / "Dockerfile").read_text().splitlines()[0]


def test_it_runs_the_image_as_make_image_configures_it() -> None:
    config = json.loads(platform_image("amd64", (), Source(VERSION, "", 0)).config)["config"]
    pairs = [re.fullmatch(r'(\S+?)="([^"]*)"', value) for value in values("ENV")]
    assert [f"{pair[1]}={pair[2]}" for pair in pairs if pair] == config["Env"]
    assert json.loads(values("ENTRYPOINT")[0]) == config["Entrypoint"]
    assert json.loads(values("CMD")[0]) == config["Cmd"]
    assert values("USER") == [config["User"]]
    assert values("WORKDIR") == [config["WorkingDir"]]
    assert values("STOPSIGNAL") == [config["StopSignal"]]
    assert values("EXPOSE")[0].split() == list(config["ExposedPorts"])
    labels = dict(value.split("=", 1) for value in values("LABEL"))
    # Who builds says when and from what.
    assert {name: json.loads(text) for name, text in labels.items()} == {
        name: text for name, text in config["Labels"].items() if not name.endswith((".created", ".revision"))
    }


def test_it_copies_the_three_layers_that_the_builder_writes_and_nothing_else() -> None:
    assert last_stage()[0] == ("FROM", "scratch")
    assert values("COPY") == [f"--from=build /image/{name} /" for name in ("base", "wheels", "peili")]
    assert not values("RUN")
    runs = [value for name, value in instructions() if name == "RUN"]
    assert runs[-1].endswith("python3 -m tests.image.build --platform linux/$TARGETARCH --trees /image")
    assert (f"/{recipe.COMMAND}",) == recipe.ENTRYPOINT


def test_the_builder_starts_with_its_context_and_no_package_and_no_git(tmp_path: Path) -> None:
    """Its base has Python and pip; and no virtual environment, tools or history are sent to it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    kept = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    assert kept == {"LICENSE", "containerd", "dht", "mirror", "requirements", "tests/image", "tests/support"}
    context = tmp_path / "context"
    for name in kept - {"LICENSE"}:
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", context)
    script = "from tests.image import build; print(build.source_of_checkout()); build.own_tree()"
    environment = {"PATH": str(tmp_path / "empty"), "SOURCE_DATE_EPOCH": "7"}
    # -S: without the packages that are installed.
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, cwd=context, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(Source(VERSION, "", 7)), done.stderr
