"""Whether a document holds the fields that SPDX 2.3 requires, in the shapes that it gives them.

Written from the specification's clauses, not from our writer; the whole schema is not here.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

_ID: Final = re.compile(r"SPDXRef-[A-Za-z0-9.-]+")
_CREATOR: Final = re.compile(r"(?:Tool|Person|Organization): \S.*")
_LICENCE_WORD: Final = re.compile(r"LicenseRef-[A-Za-z0-9.-]+|[A-Za-z0-9.-]+\+?")


def check_spdx(document: dict[str, Any]) -> None:
    """Raises: AssertionError."""
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert document["name"]
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:[^\s#]+", document["documentNamespace"])
    created = document["creationInfo"]["created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    datetime.fromisoformat(created)
    assert document["creationInfo"]["creators"]
    assert all(_CREATOR.fullmatch(it) for it in document["creationInfo"]["creators"])
    refs = [it["licenseId"] for it in document["hasExtractedLicensingInfos"]]
    assert len(refs) == len(set(refs))
    assert all(it["extractedText"] for it in document["hasExtractedLicensingInfos"])
    used: set[str] = set()
    for package in document["packages"]:
        used |= _check_package(package)
    assert used == set(refs), "a LicenseRef without a text, or a text that nobody names"
    ids = [it["SPDXID"] for it in document["packages"]]
    assert len(ids) == len(set(ids))
    known = {*ids, "SPDXRef-DOCUMENT"}
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known
        assert relation["relationshipType"] in ("DESCRIBES", "CONTAINS")
    described = [it for it in document["relationships"] if it["relationshipType"] == "DESCRIBES"]
    assert described, "the document describes nothing"


def _check_package(package: dict[str, Any]) -> set[str]:
    """The LicenseRefs it names."""
    assert _ID.fullmatch(package["SPDXID"]), package
    assert package["name"] and package["versionInfo"] and package["downloadLocation"]
    assert package["filesAnalyzed"] is False
    for checksum in package.get("checksums", []):
        assert checksum["algorithm"] == "SHA256"
        assert re.fullmatch(r"[0-9a-f]{64}", checksum["checksumValue"])
    for reference in package["externalRefs"]:
        assert reference["referenceCategory"] == "PACKAGE-MANAGER"
        assert reference["referenceType"] == "purl"
        assert re.fullmatch(r"pkg:[a-z]+/[^\s]+", reference["referenceLocator"])
    if "supplier" in package:
        assert re.fullmatch(r"(?:Person|Organization): [^<>]+", package["supplier"])
    words = [word.strip("()") for word in re.split(r" (?:AND|OR|WITH) ", package["licenseDeclared"])]
    assert all(_LICENCE_WORD.fullmatch(word) for word in words), package["licenseDeclared"]
    return {word for word in words if word.startswith("LicenseRef-")}
