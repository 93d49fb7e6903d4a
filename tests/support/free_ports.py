"""TCP ports that nobody listens on. It keeps none: another process may take one before the caller does."""

from __future__ import annotations

import contextlib
import socket


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """All different. `address` 0.0.0.0: free at every address of IPv4."""
    with contextlib.ExitStack() as stack:
        # Held together: one that is given back may be given again.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((address, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def free_port(address: str = "127.0.0.1") -> int:
    (port,) = free_ports(1, address)
    return port
