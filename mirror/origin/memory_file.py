"""Keeps what is remembered of origins in one file of the data directory, `origins.json`.

The file is replaced as a whole or not at all, also by a power cut, and only this user may read it. One that cannot be
used is set aside with a warning and never ends the daemon: without it, the daemon answers less until it has asked anew.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from mirror import whole_file
from mirror.oci.distribution import NAME_MAX_LENGTH
from mirror.origin.base import Repository
from mirror.origin.memory import (
    PRIVATE_MAX_COUNT,
    PUBLIC_MAX_COUNT,
    REFERENCES_MAX_COUNT,
    REGISTRIES_MAX_COUNT,
    Findings,
    FoundPublic,
    OriginMemory,
)

log = logging.getLogger(__name__)

ORIGINS_FILE: Final = "origins.json"
# The last one that could not be used is kept for whoever wants to know why.
ASIDE_SUFFIX: Final = ".damaged"
# Raised when a later release cannot read what this one writes.
VERSION: Final = 1
# All that fits into the memory's bounds, with the longest names and references, is below 6 MB.
FILE_MAX_BYTES: Final = 8 * 1024 * 1024
# A power cut loses as much at most; a pull of a hundred images is one write or two.
SAVE_EVERY_S: Final = 15.0

# A DNS name and a port. The grammar of image names allows more; such a registry is not worth a place in the file.
REGISTRY_MAX_LENGTH: Final = 264
_Registry = Annotated[str, Meta(min_length=1, max_length=REGISTRY_MAX_LENGTH)]
_Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX_LENGTH)]
# A tag has 128 characters at most, sha512 with its name 135.
_Reference = Annotated[str, Meta(min_length=1, max_length=135)]
# Never infinite. Before 1970 is what a finding is when the clock began there anew.
_Time = Annotated[float, Meta(ge=-1e12, le=1e12)]


class _Public(Struct, frozen=True, forbid_unknown_fields=True):
    registry: _Registry
    name: _Name
    at_s: _Time
    references: Annotated[list[_Reference], Meta(min_length=1, max_length=REFERENCES_MAX_COUNT)]


class _Private(Struct, frozen=True, forbid_unknown_fields=True):
    registry: _Registry
    name: _Name
    at_s: _Time


class _Version(Struct, frozen=True):
    version: int


class _Origins(Struct, frozen=True, forbid_unknown_fields=True):
    """Each list has the oldest first."""

    version: int
    saved_at_s: _Time
    reached_at_s: Annotated[dict[_Registry, _Time], Meta(max_length=REGISTRIES_MAX_COUNT)]
    public: Annotated[list[_Public], Meta(max_length=PUBLIC_MAX_COUNT)]
    private: Annotated[list[_Private], Meta(max_length=PRIVATE_MAX_COUNT)]


class _Damaged(Exception):
    """Why the file cannot be used, in words that follow "it"."""


def encode(findings: Findings) -> bytes:
    stored = _Origins(
        VERSION,
        findings.saved_at_s,
        {name: at_s for name, at_s in findings.reached_at_s.items() if len(name) <= REGISTRY_MAX_LENGTH},
        [
            _Public(key.registry, key.name, found.at_s, list(found.references))
            for key, found in findings.public.items()
            if len(key.registry) <= REGISTRY_MAX_LENGTH
        ],
        [
            _Private(key.registry, key.name, at_s)
            for key, at_s in findings.private_at_s.items()
            if len(key.registry) <= REGISTRY_MAX_LENGTH
        ],
    )
    return msgspec.json.format(msgspec.json.encode(stored), indent=1) + b"\n"


def _decode(content: bytes) -> Findings:
    """Raises: _Damaged."""
    try:
        version = msgspec.json.decode(content, type=_Version).version
        if version != VERSION:
            raise _Damaged(f"is of another release (version {version})")
        stored = msgspec.json.decode(content, type=_Origins)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise _Damaged(f"is damaged: {exc}") from exc
    public = {
        Repository(one.registry, one.name): FoundPublic(one.at_s, tuple(one.references))
        for one in stored.public
    }
    private = {Repository(one.registry, one.name): one.at_s for one in stored.private}
    times = [
        *stored.reached_at_s.values(),
        *(one.at_s for one in stored.public),
        *(one.at_s for one in stored.private),
    ]
    if any(at_s > stored.saved_at_s for at_s in times):
        raise _Damaged("has a time after that of its saving")
    if public.keys() & private.keys():
        raise _Damaged("says of a repository that it is public and that it is not")
    return Findings(stored.saved_at_s, stored.reached_at_s, public, private)


class MemoryFile:
    """`wall` is seconds since 1970. Nothing is raised for what the disk does."""

    def __init__(
        self, directory: Path, wall: Callable[[], float], save_every_s: float = SAVE_EVERY_S
    ) -> None:
        self._path = directory / ORIGINS_FILE
        self._wall = wall
        self._save_every_s = save_every_s
        # A save that was cancelled goes on in its thread: the next one must not be overtaken by it.
        self._writing = threading.Lock()
        self._is_warned = False

    async def load(self) -> OriginMemory:
        """An empty one where there is no file, or none that can be used."""
        return OriginMemory(await asyncio.to_thread(self._load), self._wall())

    async def run(self, memory: OriginMemory) -> None:
        """Saves what changes, until it is cancelled; then a last time."""
        saved_count = memory.changes_count
        try:
            while True:
                await asyncio.sleep(self._save_every_s)
                if memory.changes_count != saved_count:
                    saved_count = await self._keep(memory, saved_count)
        finally:
            if memory.changes_count != saved_count:
                await self._keep(memory, saved_count)

    async def _keep(self, memory: OriginMemory, saved_count: int) -> int:
        """The count of changes that are on disk then."""
        count = memory.changes_count
        findings = memory.findings(self._wall())
        return count if await asyncio.to_thread(self._save, findings) else saved_count

    def _load(self) -> Findings | None:
        path = self._path
        try:
            with self._writing:
                for leftover in path.parent.glob(f".{path.name}.*"):  # of a save that was killed
                    leftover.unlink(missing_ok=True)
            with path.open("rb") as file:
                content = file.read(FILE_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.warning("%s cannot be read: %s; it is left alone", path, exc.strerror or exc)
            return None
        try:
            if len(content) > FILE_MAX_BYTES:
                raise _Damaged(f"is longer than {FILE_MAX_BYTES} bytes")
            return _decode(content)
        except _Damaged as exc:
            self._set_aside(exc)
            return None

    def _set_aside(self, why: _Damaged) -> None:
        aside = self._path.with_name(ORIGINS_FILE + ASIDE_SUFFIX)
        try:
            self._path.replace(aside)
        except OSError as failure:
            log.warning(
                "%s %s; it cannot be set aside: %s; remove it", self._path, why, failure.strerror or failure
            )
        else:
            log.warning(
                "%s %s; it is set aside as %s, and what it said of registries is asked anew",
                self._path,
                why,
                aside.name,
            )

    def _save(self, findings: Findings) -> bool:
        with self._writing:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                whole_file.replace(self._path, encode(findings))
            except OSError as exc:
                if not self._is_warned:
                    self._is_warned = True
                    log.warning(
                        "%s cannot be written: %s; free the disk or mend the permissions, or after a restart fewer "
                        "tags are answered while a registry is away",
                        self._path,
                        exc.strerror or exc,
                    )
                return False
            self._is_warned = False
            return True
