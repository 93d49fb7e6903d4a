"""The Dockerfile, which cannot be built here, says the same as `make image`."""

from __future__ import annotations

import json
import re
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


def test_its_context_holds_what_the_builder_reads() -> None:
    """And no virtual environment, no tools, no history."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    kept = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    assert kept == {"LICENSE", "containerd", "dht", "mirror", "requirements", "tests/image", "tests/support"}
    for path in (ROOT / "tests" / "image").glob("*.py"):
        used = re.findall(r"^from (tests\.\w+)", path.read_text(), re.MULTILINE)
        assert {name.replace(".", "/") for name in used} <= kept


def test_the_builder_needs_no_package() -> None:
    """It runs where nothing is installed but Python and pip."""
    folders = (ROOT / "tests" / "image", ROOT / "tests" / "support")
    names = [
        *folders[0].glob("*.py"),
        *(folders[1] / f"{it}.py" for it in ("apt", "apt_sources", "debs", "missing")),
    ]
    third_party = {"aiohttp", "click", "grpc", "msgspec", "pytest", "yaml", "kademlia", "rich", "google"}
    for path in names:
        found = set(re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
        assert not found & third_party, path
