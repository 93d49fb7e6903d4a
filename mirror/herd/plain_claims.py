"""Claims of a host that never sends its containerd to the origin for others' sake: a plain mirror.

Whoever has it serves it; what nobody has is a miss at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mirror.oci.digest import Digest
from mirror.steer.claims import NamedPeer, Replaced, Word
from mirror.steer.commands import AskClaim, ReleaseClaim, RenewClaim
from mirror.steer.rulings import Excluded

AGAIN_S = 1.0


class PlainClaims:
    """Implements `Claims`."""

    is_joining = False

    def __init__(self, find: Callable[[Digest], Awaitable[list[NamedPeer]]]) -> None:
        self._find = find

    async def ask(self, digest: Digest, ask: AskClaim | RenewClaim, on_replaced: Replaced) -> Word:
        if isinstance(ask, AskClaim) and not ask.wants_providers:
            # They were of no use, and there is nobody else.
            return Word(Excluded(AGAIN_S), (), (), is_alone=True)
        found = await self._find(digest)
        return Word(Excluded(AGAIN_S), tuple(found), (), is_alone=not found)

    async def release(self, digest: Digest, release: ReleaseClaim) -> None:
        """There is none."""
