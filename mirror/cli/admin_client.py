"""Asks the daemon of this host, by its admin API. With the standard library's HTTP: a command that asks must be there
at once, and carries no part of the daemon.
"""

from __future__ import annotations

import http.client
from typing import Final, TypeVar

import msgspec

from mirror.errors import MirrorError
from mirror.settings.model import Address

# A daemon answers in well under a second; one that is this late has trouble of its own.
ANSWER_TIMEOUT_S: Final = 10.0
# A thousand rows of the longest names there can be. What sends more is no daemon of ours.
ANSWER_MAX_BYTES: Final = 8 * 1024 * 1024

Document = TypeVar("Document")


class DaemonUnheard(MirrorError):
    """The daemon gave no answer that can be shown."""


def ask(address: Address, path: str) -> bytes:
    """The document at `path`. Raises: DaemonUnheard."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(ANSWER_MAX_BYTES + 1)
    except TimeoutError as exc:
        raise DaemonUnheard(
            f"the daemon at {address} does not answer within {ANSWER_TIMEOUT_S:g} s; its log says what it does"
        ) from exc
    except OSError as exc:
        raise DaemonUnheard(
            f"no daemon answers at {address} ({exc.strerror or exc}): start it with peili serve, or name its own "
            f"--admin-addr"
        ) from exc
    except http.client.HTTPException as exc:
        raise DaemonUnheard(_stranger(address, f"no HTTP: {type(exc).__name__}")) from exc
    finally:
        connection.close()
    if response.length and len(body) <= ANSWER_MAX_BYTES:
        raise DaemonUnheard(f"the daemon at {address} ended its answer early: it may be stopping; ask again")
    if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        reason = "".join(one if one.isprintable() else " " for one in body[:500].decode("utf-8", "replace"))
        raise DaemonUnheard(f"the daemon at {address} cannot say now: {reason.strip()}")
    if response.status == http.HTTPStatus.NOT_FOUND:
        raise DaemonUnheard(f"the daemon at {address} has no {path}: it is of an older release; update it")
    if response.status != http.HTTPStatus.OK or len(body) > ANSWER_MAX_BYTES:
        raise DaemonUnheard(_stranger(address, f"status {response.status}, {len(body)} bytes"))
    return body


def read(address: Address, body: bytes, kind: type[Document]) -> Document:
    """Raises: DaemonUnheard."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as exc:
        raise DaemonUnheard(_stranger(address, str(exc))) from exc


def _stranger(address: Address, detail: str) -> str:
    return f"what answers at {address} is no daemon of this release ({detail}): name its own --admin-addr"
