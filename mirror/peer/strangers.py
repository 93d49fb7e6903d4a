"""Peers with whom this daemon cannot speak: each is named once in the log, whichever side noticed first."""

from __future__ import annotations

import logging

from mirror.peer import wire

log = logging.getLogger(__name__)

# A line for each of so many peers is enough for an operator; the memory is for as many addresses.
NAMED_MAX_COUNT = 1024


class Strangers:
    def __init__(self) -> None:
        self._named: set[tuple[str, str]] = set()

    def of_another_version(self, address: str, versions: str) -> None:
        """`address` is an IP address or a host name, `versions` what the peer says that it speaks."""
        ours = ", ".join(str(version) for version in wire.SPOKEN_VERSIONS)
        self._name(
            address,
            "version",
            f"peer {address} speaks wire version {versions} and this daemon {ours}: "
            "it is left aside; update the older of the two",
        )

    def refused(self, address: str, reason: str) -> None:
        self._name(
            address,
            reason,
            f"peer {address} was refused: {reason}; give all hosts of a cluster the same name and secret",
        )

    def _name(self, address: str, about: str, text: str) -> None:
        if (address, about) in self._named or len(self._named) >= NAMED_MAX_COUNT:
            return
        self._named.add((address, about))
        log.warning(text)
