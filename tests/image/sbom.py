"""The list of what is in an image: SPDX 2.3 as JSON, from what the packages say of themselves.

Answers name, version, licence and SHA-256 of every Debian package, wheel and of our own packages. It reads no source:
where a package's own words about its licence are no SPDX expression, they stand as a LicenseRef with the place of the
text, which the image holds.
Source: SPDX specification 2.3, clauses 6, 7, 10 and 11.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from mirror.version import VERSION
from tests.image import recipe
from tests.image.debian import Deb
from tests.image.tree import File, Tree
from tests.image.wheels import Wheel

# Debian's short names, and those of old METADATA files, in SPDX's words.
_KNOWN: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Artistic": "Artistic-1.0-Perl",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "Expat": "MIT",
    "GPL-1+": "GPL-1.0-or-later",
    "GPL-2": "GPL-2.0-only",
    "GPL-2+": "GPL-2.0-or-later",
    "GPL-3+": "GPL-3.0-or-later",
    "LGPL-2+": "LGPL-2.0-or-later",
    "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPL-3+": "LGPL-3.0-or-later",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MPL-2.0": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "X11": "X11",
    "Zlib": "Zlib",
}
_DEBIAN_LICENCE: Final = re.compile(r"^License: *(\S[^\n]*)$", re.MULTILINE)

Json = dict[str, object]


def sbom(
    debs: Sequence[Deb], wheels: Sequence[Wheel], tree: Tree, architecture: str, created_s: int
) -> bytes:
    """`tree` holds the copyright files. created_s: since the epoch."""
    extracted: dict[str, str] = {}
    ours: Json = {
        "SPDXID": "SPDXRef-peili",
        "name": "peili",
        "versionInfo": VERSION,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": "Apache-2.0",
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
        "externalRefs": [_purl(f"pkg:oci/peili?arch={architecture}&tag={VERSION}")],
    }
    parts = [_of_deb(deb, tree, extracted) for deb in debs] + [
        _of_wheel(wheel, extracted) for wheel in wheels
    ]
    document: Json = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"peili-{VERSION}-{architecture}",
        # The same inputs have the same name: it is made of their hashes.
        "documentNamespace": f"urn:peili:sbom:{VERSION}:{architecture}:{_inputs_hash(parts)}",
        "creationInfo": {
            "created": datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: peili-image-{VERSION}"],
        },
        "packages": [ours, *parts],
        "hasExtractedLicensingInfos": [
            {"licenseId": ref, "name": ref.removeprefix("LicenseRef-"), "extractedText": text}
            for ref, text in sorted(extracted.items())
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-peili",
            },
            *(
                {
                    "spdxElementId": "SPDXRef-peili",
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": part["SPDXID"],
                }
                for part in parts
            ),
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _of_deb(deb: Deb, tree: Tree, extracted: dict[str, str]) -> Json:
    place = f"/usr/share/doc/{deb.package}/copyright"
    purl = f"pkg:deb/debian/{quote(deb.package)}@{quote(deb.version, safe='')}"
    names = _names_in(_copyright(deb.package, tree))
    expressions = sorted({part for name in names for part in _of_debian_name(name, place, extracted)})
    return {
        **_package(f"deb-{deb.package}", deb.package, deb.version, deb.sha256),
        "supplier": f"Person: {_person(deb.field('Maintainer'))}",
        "licenseDeclared": " AND ".join(expressions) or "NOASSERTION",
        "licenseComments": f"The text is in the image: {place}",
        "externalRefs": [_purl(f"{purl}?arch={deb.field('Architecture')}&distro=debian-{recipe.SUITE}")],
    }


def _of_wheel(wheel: Wheel, extracted: dict[str, str]) -> Json:
    said = wheel.metadata["License-Expression"]
    if said is None:
        classifiers = [
            str(one) for one in wheel.metadata.get_all("Classifier", []) if one.startswith("License ::")
        ]
        short = str(wheel.metadata["License"] or "")
        name = short if short in _KNOWN or not classifiers else classifiers[0].rpartition(":: ")[2]
        place = f"the dist-info folder of {wheel.name} below /{recipe.SITE}"
        said = _KNOWN.get(name) or (_ref(name, place, extracted) if name else "NOASSERTION")
    name = re.sub(r"[-_.]+", "-", wheel.name).lower()
    return {
        **_package(f"wheel-{name}", wheel.name, wheel.version, wheel.sha256),
        "packageFileName": wheel.path.name,
        "licenseDeclared": str(said),
        "externalRefs": [_purl(f"pkg:pypi/{name}@{quote(wheel.version, safe='')}")],
    }


def _package(identity: str, name: str, version: str, sha256: str) -> Json:
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", identity),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }


def _purl(locator: str) -> Json:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }


def _copyright(package: str, tree: Tree) -> str:
    """The folder may be a link to another package's."""
    for name in (package, _linked(package, tree)):
        node = tree.get(f"usr/share/doc/{name}/copyright")
        if isinstance(node, File):
            return node.content.decode(errors="replace")
    return ""


def _linked(package: str, tree: Tree) -> str:
    return str(getattr(tree.get(f"usr/share/doc/{package}"), "target", ""))


def _names_in(text: str) -> Iterator[str]:
    """Of a machine-readable copyright file; other files have no names to trust."""
    if not text.lstrip().startswith("Format:"):
        return
    for found in _DEBIAN_LICENCE.finditer(text):
        yield found[1].strip()


def _of_debian_name(name: str, place: str, extracted: dict[str, str]) -> Iterator[str]:
    """A comma ends a choice; else `and` binds closer than `or`, as in SPDX."""
    for group in name.split(", and "):
        choices = [
            [_KNOWN.get(one) or _ref(one, place, extracted) for one in choice.split(" and ")]
            for choice in group.split(" or ")
        ]
        if len(choices) == 1:
            yield from choices[0]
        else:
            yield f"({' OR '.join(' AND '.join(choice) for choice in choices)})"


def _ref(name: str, place: str, extracted: dict[str, str]) -> str:
    ref = "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
    extracted.setdefault(ref, f"{name}: see {place}")
    return ref


def _person(maintainer: str) -> str:
    found = re.match(r"(.*?) <(.*)>", maintainer)
    return f"{found[1]} ({found[2]})" if found else maintainer


def _inputs_hash(parts: Sequence[Json]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
