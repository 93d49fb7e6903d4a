"""The list of what is in the image holds what SPDX 2.3 asks for, and what the packages say of themselves."""

from __future__ import annotations

import json
import re
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

from tests.image.debian import Deb
from tests.image.sbom import sbom
from tests.image.tree import File, Link, Tree
from tests.image.wheels import Wheel
from tests.support.spdx import check_spdx

_CONTROL = "Package: {0}\nVersion: 1:2.0+x\nArchitecture: amd64\nMaintainer: A Person <a@example.org>\n"
_MACHINE_READABLE = (
    b"Format: https://www.debian.org/doc/\nFiles: *\nLicense: GPL-2+\n text\nLicense: Odd and MIT\n"
)
_TREE: Tree = {
    "usr/share/doc/libone/copyright": File(_MACHINE_READABLE),
    "usr/share/doc/libtwo": Link("libone"),
    "usr/share/doc/libchoice/copyright": File(
        b"Format: x\nLicense: Odder or GPL-1+ and Expat, and Zlib\nLicense: Zlib\n"
    ),
    "usr/share/doc/libprose/copyright": File(b"License: do what you like\n"),
}


def deb(name: str) -> Deb:
    return Deb(Path(f"{name}.deb"), name, "1:2.0+x", "ab" * 32, _CONTROL.format(name))


def wheel(name: str, *fields: str) -> Wheel:
    text = "\n".join([f"Name: {name}", "Version: 3", *fields, "", ""])
    return Wheel(Path(f"{name}.whl"), name, "3", "cd" * 32, HeaderParser().parsestr(text))


def document(debs: list[Deb], wheels: list[Wheel]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(sbom(debs, wheels, _TREE, "amd64", 1_700_000_000))
    check_spdx(made)
    return made


def package(made: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in made["packages"] if one["name"] == name]
    return dict(found)


@pytest.mark.parametrize("name", ["libone", "libtwo"])
def test_a_debian_package_has_version_hash_licence_and_address(name: str) -> None:
    """The folder of the second is a link to the first one's."""
    found = package(document([deb(name)], []), name)
    assert found["versionInfo"] == "1:2.0+x"
    assert found["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert found["licenseDeclared"] == "GPL-2.0-or-later AND LicenseRef-Odd AND MIT"
    (address,) = found["externalRefs"]
    assert (
        address["referenceLocator"] == f"pkg:deb/debian/{name}@1%3A2.0%2Bx?arch=amd64&distro=debian-bookworm"
    )


def test_a_choice_of_licences_stays_a_choice() -> None:
    found = package(document([deb("libchoice")], []), "libchoice")
    assert found["licenseDeclared"] == "(LicenseRef-Odder OR GPL-1.0-or-later AND MIT) AND Zlib"


def test_prose_is_no_licence_name() -> None:
    found = package(document([deb("libprose")], []), "libprose")
    assert found["licenseDeclared"] == "NOASSERTION"
    assert found["licenseComments"] == "The text is in the image: /usr/share/doc/libprose/copyright"


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (["License-Expression: Apache-2.0 AND MIT"], "Apache-2.0 AND MIT"),
        (["License: 3-Clause BSD License"], "BSD-3-Clause"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: a page\n of text", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: MIT", "Classifier: License :: OSI Approved :: Another"], "MIT"),
        (["License: Strange Licence"], "LicenseRef-Strange-Licence"),
        ([], "NOASSERTION"),
    ],
)
def test_a_wheel_says_its_licence_in_one_of_three_ways(fields: list[str], licence: str) -> None:
    made = document([], [wheel("Some_Wheel", *fields)])
    found = package(made, "Some_Wheel")
    assert found["licenseDeclared"] == licence
    assert found["externalRefs"][0]["referenceLocator"] == "pkg:pypi/some-wheel@3"


def test_the_same_inputs_give_the_same_bytes_and_others_another_name() -> None:
    names = [document([deb("libone")], [wheel(it)])["documentNamespace"] for it in ("a", "a", "b")]
    assert names[0] == names[1] != names[2]
    assert re.fullmatch(r"[a-z]+:\S+", names[0])


def test_the_image_contains_all_that_is_listed_and_says_when_it_was_made() -> None:
    made = document([deb("libone")], [wheel("a"), wheel("b")])
    contained = {
        it["relatedSpdxElement"] for it in made["relationships"] if it["relationshipType"] == "CONTAINS"
    }
    assert contained == {"SPDXRef-deb-libone", "SPDXRef-wheel-a", "SPDXRef-wheel-b"}
    assert made["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
