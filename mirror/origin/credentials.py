"""Which credentials this daemon has for a registry: from a docker config.json and the helpers that it names.

The file is read anew when it changes; while it is damaged, what it said before holds. Nothing of it is ever logged.
Refuses to run a helper through a shell, or one that is given by a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirror import child_process
from mirror.origin.docker_config import (
    NO_CONFIG,
    Credential,
    CredentialsDamaged,
    HelperCall,
    parse_config,
    parse_helper_answer,
)
from mirror.origin.flights import Flights

log = logging.getLogger(__name__)

# Clusters with some hundred registries have files of 100 KB.
FILE_MAX_BYTES = 1024 * 1024
# How soon a changed file is noticed; containers asked for in the meantime use what was known.
LOOK_AGAIN_S = 1.0
# Cloud helpers ask a server of their own; one that takes longer would use up what the caller has.
HELPER_TIMEOUT_S = 5.0
# What a helper answered is used this long: it is a process each, and its tokens live for hours.
HELPER_KEPT_S = 60.0
# And this long when it failed: long enough that a herd of requests does not start a herd of processes.
HELPER_FAILED_KEPT_S = 5.0
# A token of a cloud's helper has up to 4 KB.
HELPER_ANSWER_MAX_BYTES = 64 * 1024
# What helpers answered, for so many registries.
HELPER_ANSWERS_MAX_COUNT = 256

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Answer:
    credential: Credential | None = field(repr=False)
    until_s: float


class Credentials:
    """`path` None: no credentials at all. A file that is not there is one without content."""

    def __init__(self, path: Path | None, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._config = NO_CONFIG
        self._stamp: _Stamp | None = None
        self._looked_at_s: float | None = None
        self._looking = asyncio.Lock()
        self._answers: dict[HelperCall, _Answer] = {}
        self._helper_flights: Flights[HelperCall, Credential | None] = Flights()

    def load(self) -> None:
        """At the daemon's start; blocks. Raises: CredentialsDamaged."""
        self._looked_at_s = self._clock()
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._config = NO_CONFIG if stamp is None else parse_config(_read(self._path))
                self._answers.clear()
        except CredentialsDamaged as exc:
            raise CredentialsDamaged(f"{self._path} holds no credentials: {exc}; mend or remove it") from None
        except OSError as exc:
            raise CredentialsDamaged(
                f"{self._path} cannot be read: {exc.strerror or exc}; mend its permissions or remove it"
            ) from exc

    async def find(self, authority: str) -> Credential | None:
        """`authority`: host, and port if any, of the endpoint that is asked. Never raises."""
        if self._path is None:
            return None
        # Whoever comes while the file is read waits for what it says.
        async with self._looking:
            if self._looked_at_s is None or self._clock() - self._looked_at_s >= LOOK_AGAIN_S:
                try:
                    await asyncio.to_thread(self.load)
                except CredentialsDamaged as exc:
                    log.warning("%s; until then what it said before is used", exc)
        config = self._config
        call = config.helper(authority)
        told = None if call is None else await self._ask(call)
        return config.written(authority) if told is None else told

    async def _ask(self, call: HelperCall) -> Credential | None:
        known = self._answers.get(call)
        if known is not None and self._clock() < known.until_s:
            return known.credential
        return await self._helper_flights.share(call, lambda: self._run(call))

    async def _run(self, call: HelperCall) -> Credential | None:
        credential, kept_s = None, HELPER_KEPT_S
        try:
            credential = await _run_helper(call)
        except CredentialsDamaged as exc:
            kept_s = HELPER_FAILED_KEPT_S
            log.warning("docker-credential-%s told no credentials of %s: %s", call.name, call.server, exc)
        self._answers[call] = _Answer(credential, self._clock() + kept_s)
        while len(self._answers) > HELPER_ANSWERS_MAX_COUNT:
            del self._answers[next(iter(self._answers))]
        return credential


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise CredentialsDamaged(f"it is longer than {FILE_MAX_BYTES} bytes")
    return data


async def _run_helper(call: HelperCall) -> Credential | None:
    """None: the helper knows none; it says so by its exit code. Raises: CredentialsDamaged."""
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{call.name}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as exc:
        raise CredentialsDamaged(f"it cannot be run: {exc.strerror or exc}") from exc
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(HELPER_TIMEOUT_S):
            process.stdin.write(call.server.encode())
            # One that does not read its input may still answer.
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            process.stdin.close()
            answer = bytearray()
            while chunk := await process.stdout.read(HELPER_ANSWER_MAX_BYTES):
                answer += chunk
                if len(answer) > HELPER_ANSWER_MAX_BYTES:
                    raise CredentialsDamaged(f"it says more than {HELPER_ANSWER_MAX_BYTES} bytes")
            exit_code = await process.wait()
    except TimeoutError:
        raise CredentialsDamaged(f"it did not answer within {HELPER_TIMEOUT_S:g} s") from None
    finally:
        await child_process.kill(process)
    return parse_helper_answer(bytes(answer)) if exit_code == 0 else None
