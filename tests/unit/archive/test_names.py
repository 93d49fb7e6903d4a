"""Names as Docker normalises them, and those that nobody could pull."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.archive.documents import Reference
from mirror.archive.errors import ImageNameInvalid
from mirror.archive.names import names_of, normalised, tag_of
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_INDEX
from mirror.tags.image_name import parse_tag_name

D = Digest.of(b"image")
OTHER = Digest.of(b"other")

GOOD = {
    "app": "docker.io/library/app:latest",
    "app:v1": "docker.io/library/app:v1",
    "team/app": "docker.io/team/app:latest",
    "docker.io/app": "docker.io/library/app:latest",
    "index.docker.io/library/app:v1": "docker.io/library/app:v1",
    "localhost/app": "localhost/app:latest",
    "registry.example/app": "registry.example/app:latest",
    "registry.example:5000/a/b/c:V1.0_x": "registry.example:5000/a/b/c:V1.0_x",
    "registry:5000/app": "registry:5000/app:latest",
    "Registry/app": "Registry/app:latest",
    "[fd00::1]:5000/app:v1": "[fd00::1]:5000/app:v1",
    f"app@{D}": f"docker.io/library/app@{D}",
    f"registry.example/app@{D}": f"registry.example/app@{D}",
}
BAD = {
    "": "not a repository name",
    "App": "lower case only",
    "team/App": "lower case only",
    "registry.example/": "not a repository name",
    "app:": "not a tag",
    "app:v1/x": "not a registry",
    "reg.example/app:v1/x": "not a tag",
    "app:" + "x" * 129: "not a tag",
    "a/" + "x" * 260: "not a repository name",
    "reg_istry.example/app": "not a registry",
    "../../etc": "not a registry",
    "app v1": "not a repository name",
    "app\n:v1": "not a repository name",
    f"app:v1@{D}": "a tag and a digest",
    "app@sha256:12": "not a digest",
    f"app@{OTHER}": "another digest",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_name_is_spelled_as_containerd_has_it(text: str) -> None:
    assert normalised(text, D) == GOOD[text]
    assert normalised(GOOD[text]) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_a_name_that_nobody_can_pull_is_refused(text: str) -> None:
    with pytest.raises(ImageNameInvalid, match=BAD[text]):
        normalised(text, D)


@given(st.text(max_size=60))
def test_a_normalised_name_is_one_that_tags_are_told_of(text: str) -> None:
    try:
        name = normalised(text)
    except ImageNameInvalid:
        return
    assert normalised(name) == name
    if tag_of(name):
        found = parse_tag_name(name)
        registry, _, rest = name.partition("/")
        # The one exception: a repository that begins with its own registry.
        assert found is not None or rest.startswith(registry)


def reference(name: str = "", ref: str = "") -> Reference:
    return Reference(OCI_INDEX, D, 1, name=name, ref=ref)


@pytest.mark.parametrize(
    ("one", "tags", "names"),
    [
        (reference("app:v1", "other:v2"), ["third"], ("docker.io/library/app:v1",)),
        (reference("", "reg.example/app:v1"), [], ("reg.example/app:v1",)),
        (reference("", "app:v1"), [], ("docker.io/library/app:v1",)),
        (reference("", "v1"), [], ()),
        (
            reference("", "v1"),
            ["app:a", "app:b", "app:a"],
            ("docker.io/library/app:a", "docker.io/library/app:b"),
        ),
        (reference(), [], ()),
        (reference(f"app@{D}"), [], (f"docker.io/library/app@{D}",)),
    ],
)
def test_which_name_an_image_has(one: Reference, tags: list[str], names: tuple[str, ...]) -> None:
    assert names_of(one, tags) == names


def test_a_name_with_a_digest_has_no_tag() -> None:
    assert (tag_of(f"reg.example:5000/app@{D}"), tag_of("reg.example:5000/app:v1")) == ("", "v1")
