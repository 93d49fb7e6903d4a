"""Asks for the claims of one digest as the ladder orders, and tells it the rulings. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import mirror.steer.commands as do
import mirror.steer.events as on
from mirror.oci.digest import Digest
from mirror.steer.claims import Claims, NamedPeer, Word, name_of


class Claiming:
    """`note_names`: whom a ruling's names mean."""

    def __init__(
        self,
        digest: Digest,
        claims: Claims,
        *,
        tell: Callable[[on.Event], None],
        note_names: Callable[[Iterable[NamedPeer]], None],
    ) -> None:
        self._digest = digest
        self._claims = claims
        self._tell = tell
        self._note_names = note_names
        self._is_joining_told = False

    async def ask(self, order: do.AskClaim | do.RenewClaim) -> None:
        word = await self._claims.ask(self._digest, order, self._replaced)
        self.note_joining()
        self._note_names((*word.others, *word.providers))
        providers = tuple(name_of(one.peer) for one in word.providers)
        self._tell(on.Ruled(order.ask_id, word.ruling, providers, word.is_alone))

    async def release(self, order: do.ReleaseClaim) -> None:
        await self._claims.release(self._digest, order)

    def note_joining(self) -> None:
        """Whether this daemon knows its neighbours may have changed."""
        is_joining = self._claims.is_joining
        if is_joining != self._is_joining_told:
            self._is_joining_told = is_joining
            self._tell(on.DaemonJoining(is_joining))

    def _replaced(self, word: Word) -> None:
        """A nearer arbiter's grant came late, and the one that was told is released."""
        self._note_names(word.others)
        self._tell(on.Replaced(word.ruling))
