"""What bytes lie in on their way from one socket to another: a pipe of the kernel's, or memory of ours.

Both say by BlockingIOError which side has to be waited for: `take` the source, `give` the client. Waits for neither.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Protocol

# More than a socket's buffer brings in one go is of no use, and a slow client keeps all of it.
PIPE_BYTES = 1024 * 1024
# As much as stays in a CPU's own cache.
COPY_BYTES = 256 * 1024
# The kernel does not splice such sockets, or at all, or may not.
UNSPLICEABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Vessel(Protocol):
    """`take` is called only while nothing is held; both tell how much they moved, `take` 0 where the source has ended.
    `is_last`: nothing follows soon. Raise: BlockingIOError, OSError."""

    def take(self, source: int, max_bytes: int) -> int: ...

    def give(self, client: int, held_bytes: int, *, is_last: bool) -> int: ...


class Pipe:
    def __init__(self, outer: int, inner: int) -> None:
        self._outer = outer
        self._inner = inner

    def take(self, source: int, max_bytes: int) -> int:
        return os.splice(source, self._inner, min(max_bytes, PIPE_BYTES), flags=_FLAGS)

    def give(self, client: int, held_bytes: int, *, is_last: bool) -> int:
        # MORE on the last bytes holds them back for up to 200 ms (measured).
        flags = _FLAGS if is_last else _FLAGS | os.SPLICE_F_MORE
        return os.splice(self._outer, client, held_bytes, flags=flags)

    def rest(self, held_bytes: int) -> bytes:
        """What is held, where it cannot be given."""
        found = b""
        while len(found) < held_bytes:
            found += os.read(self._outer, held_bytes - len(found))
        return found


class Copying:
    """`held` is given first."""

    def __init__(self, held: bytes = b"") -> None:
        self._view = memoryview(bytearray(held.ljust(COPY_BYTES, b"\0")))
        self._start, self._stop = 0, len(held)

    def take(self, source: int, max_bytes: int) -> int:
        taken_bytes = os.readv(source, [self._view[:max_bytes]])
        self._start, self._stop = 0, taken_bytes
        return taken_bytes

    def give(self, client: int, held_bytes: int, *, is_last: bool) -> int:
        given_bytes = os.write(client, self._view[self._start : self._stop])
        self._start += given_bytes
        return given_bytes


@contextlib.contextmanager
def vessel() -> Iterator[Vessel]:
    try:
        outer, inner = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # no descriptor is left
        yield Copying()
        return
    try:
        with contextlib.suppress(OSError):  # more than a user may have: the usual 64 KiB do, too
            fcntl.fcntl(inner, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield Pipe(outer, inner)
    finally:
        os.close(outer)
        os.close(inner)
