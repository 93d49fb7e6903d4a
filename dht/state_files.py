"""Keeps the saved state in two files of a directory: `peers.msgpack` and `records.msgpack`.

A file is replaced as a whole or not at all, also by a power cut, and only this user may read it. One that cannot be
used is set aside with a warning and never ends the node: what it held comes back from the other nodes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from dht.contacts import Contact
from dht.errors import StateDamaged
from dht.params import Params
from dht.records.records import SavedRecord
from dht.records.saved import (
    PEERS_MAX_BYTES,
    RECORDS_MAX_BYTES,
    RECORDS_PER_CHUNK_COUNT,
    RecordsEncoder,
    decode_peers,
    decode_records,
    encode_peers,
)

log = logging.getLogger(__name__)

PEERS_FILE: Final = "peers.msgpack"
RECORDS_FILE: Final = "records.msgpack"
# The last one that could not be used is kept for whoever wants to know why.
ASIDE_SUFFIX: Final = ".damaged"

T = TypeVar("T")


class StateFiles:
    """`wall` is seconds since 1970. Nothing is raised for what the disk does: a load gives nothing then, and a save
    says False."""

    def __init__(self, directory: Path, cluster: str, params: Params, wall: Callable[[], float]) -> None:
        self._directory = directory
        self._cluster = cluster
        self._params = params
        self._wall = wall
        # A save that was cancelled goes on in its thread: the next one must not be overtaken by it.
        self._writing = threading.Lock()
        self._is_warned = False

    async def load_peers(self) -> list[Contact]:
        def decode(content: bytes) -> list[Contact]:
            return decode_peers(content, self._cluster, self._params)

        return await asyncio.to_thread(self._load, PEERS_FILE, PEERS_MAX_BYTES, decode) or []

    async def save_peers(self, contacts: Iterable[Contact]) -> bool:
        content = encode_peers(contacts, self._cluster, self._params)
        return await asyncio.to_thread(self._save, PEERS_FILE, content)

    async def load_records(self) -> list[SavedRecord]:
        """Those that have not expired, with what remains of their time."""

        def decode(content: bytes) -> list[SavedRecord]:
            return decode_records(content, self._cluster, self._wall(), self._params)

        return await asyncio.to_thread(self._load, RECORDS_FILE, RECORDS_MAX_BYTES, decode) or []

    async def save_records(self, records: Iterable[SavedRecord]) -> bool:
        """Reads `records` in pieces, between which other tasks run: they may change meanwhile, as long as the iterator
        bears it."""
        encoder = RecordsEncoder(self._cluster, self._wall())
        remaining = iter(records)
        while chunk := list(islice(remaining, RECORDS_PER_CHUNK_COUNT)):
            encoder.add(chunk)
            await asyncio.sleep(0)
        return await asyncio.to_thread(self._save, RECORDS_FILE, encoder.finish())

    def _load(self, name: str, max_bytes: int, decode: Callable[[bytes], T]) -> T | None:
        path = self._directory / name
        try:
            with self._writing:
                for leftover in self._directory.glob(f".{name}.*"):  # of a save that was killed
                    leftover.unlink(missing_ok=True)
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.warning("%s cannot be read: %s; it is left alone", path, exc.strerror or exc)
            return None
        try:
            if len(content) > max_bytes:
                raise StateDamaged(f"it is longer than {max_bytes} bytes")
            return decode(content)
        except StateDamaged as exc:
            aside = path.with_name(name + ASIDE_SUFFIX)
            try:
                path.replace(aside)
            except OSError as failure:
                log.warning(
                    "%s cannot be used: %s; nor be set aside: %s", path, exc, failure.strerror or failure
                )
            else:
                log.warning("%s cannot be used: %s; it is set aside as %s", path, exc, aside.name)
            return None

    def _save(self, name: str, content: bytes) -> bool:
        path = self._directory / name
        with self._writing:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _replace(path, content)
            except OSError as exc:
                if not self._is_warned:
                    self._is_warned = True
                    log.warning(
                        "%s cannot be written: %s; free the disk or mend the permissions, or a restart begins with "
                        "what others know",
                        path,
                        exc.strerror or exc,
                    )
                return False
            self._is_warned = False
            return True


def _replace(path: Path, content: bytes) -> None:
    """Raises: OSError; the old file stands then."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
