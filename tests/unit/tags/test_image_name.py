"""Which image names are tags of a registry, and which content came from where its image's name points."""

from __future__ import annotations

import pytest

from mirror.origin.base import Repository
from mirror.tags.base import TagName
from mirror.tags.image_name import NAME_MAX_LENGTH, came_from, parse_tag_name

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("docker.io/library/busybox:1.36", "docker.io", "library/busybox", "1.36"),
        ("index.docker.io/library/busybox:1.36", "docker.io", "library/busybox", "1.36"),
        ("registry-1.docker.io/library/busybox:a", "docker.io", "library/busybox", "a"),
        ("Reg.Test:5000/lib/app:V1_x.y-z", "reg.test:5000", "lib/app", "V1_x.y-z"),
        ("localhost/app:v1", "localhost", "app", "v1"),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1"),
        ("[fd00::1]:5000/app:v1", "[fd00::1]:5000", "app", "v1"),
        ("10.1.2.3:443/a/b/c:latest", "10.1.2.3:443", "a/b/c", "latest"),
    ],
)
def test_a_tag_of_a_registry(text: str, registry: str, repository: str, tag: str) -> None:
    assert parse_tag_name(text) == TagName(Repository(registry, repository), tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "/:",
        "busybox:latest",
        "library/busybox:latest",
        DIGEST,
        f"reg.test/app@{DIGEST}",
        f"reg.test/app:v1@{DIGEST}",
        "reg.test/app",
        "reg.test/app:",
        "reg.test:5000/app",
        "reg.test/App:v1",
        "reg.test/a//b:v1",
        "reg.test/:v1",
        "reg.test/app:v 1",
        "reg.test/app:v1/",
        "reg.test/app:v1?x",
        "reg.test/app:" + "v" * 129,
        f"reg.test/app:{DIGEST}",
        "reg..test/app:v1",
        "http://reg.test/app:v1",
        "user@reg.test/app:v1",
        "reg.test/../etc/passwd:v1",
        # A mirror's path would take the second for the registry's name.
        "reg.test/reg.test/app:v1",
        "reg.test/app\n:v1",
        "reg.test/" + "a" * NAME_MAX_LENGTH + ":v1",
    ],
)
def test_no_tag_of_a_registry(text: str) -> None:
    assert parse_tag_name(text) is None


@pytest.mark.parametrize(
    ("registry", "name", "labels", "came"),
    [
        ("reg.test", "lib/app", {"reg.test": "lib/app"}, True),
        ("reg.test:5000", "lib/app", {"reg.test": "lib/app"}, True),
        ("reg.test", "lib/app", {"reg.test": "lib/other,lib/app"}, True),
        ("reg.test", "lib/app", {"Reg.Test": "lib/app"}, True),
        ("docker.io", "library/app", {"docker.io": "library/app"}, True),
        ("docker.io", "library/app", {"index.docker.io": "library/app"}, True),
        ("[fd00::1]:5000", "app", {"fd00::1": "app"}, True),
        ("[fd00::1]", "app", {"fd00::1": "app"}, True),
        ("reg.test", "lib/app", {}, False),
        ("reg.test", "lib/app", {"reg.test": ""}, False),
        ("reg.test", "lib/app", {"reg.test": "lib/application"}, False),
        ("reg.test", "lib/app", {"reg.test": "lib/app/more"}, False),
        ("reg.test", "app", {"reg.test": "lib/app"}, False),
        ("reg.test", "lib/app", {"other.test": "lib/app"}, False),
        ("reg.test", "lib/app", {"a.reg.test": "lib/app"}, False),
        ("reg.test", "lib/app", {"other.test": "lib/app", "reg.test": "lib/else"}, False),
    ],
)
def test_content_came_from_where_its_label_says(
    registry: str, name: str, labels: dict[str, str], came: bool
) -> None:
    full = {f"containerd.io/distribution.source.{host}": value for host, value in labels.items()}
    noise = {"containerd.io/gc.ref.content.config": "lib/app", "reg.test": "lib/app"}
    assert came_from(noise | full, Repository(registry, name)) is came
