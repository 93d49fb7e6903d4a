"""This host's own records of tags, and which of them other hosts are told. Pure.

Rules
1. `upstream`: tags of repositories that anybody may read, as far as is known, and of those that the operator named
   (`--stale-private`). `peers`: all. `off`: none.
2. A key that is announced is one that is told; of a tag that is not, no other host learns that it is here.
3. Two tags that differ in case only share a key (`TagName.key`): it stays while one of them is told.
4. What an operator imported is a record under `peers` only. Elsewhere a record is the registry's word, and this is not.
5. While the runtime is away, what was known stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from mirror.advertise.inventory import Announce, Command, Withdraw
from mirror.origin.base import Repository
from mirror.tags.base import OwnTag, TagName
from mirror.tags.rules import TagPolicy
from mirror.tags.source import OwnTags, TagEvent, TagGone, TagSet, TagsLost


class TagInventory:
    """`is_named`: by the operator, to be told though it may be private."""

    def __init__(self, policy: TagPolicy, is_named: Callable[[Repository], bool]) -> None:
        self._policy = policy
        self._is_named = is_named
        self._tags: dict[Repository, dict[TagName, OwnTag]] = {}
        self._announced: set[str] = set()

    @property
    def announced_count(self) -> int:
        return len(self._announced)

    def is_announced(self, name: TagName) -> bool:
        return self.own(name) is not None and name.key in self._announced

    def handle(self, event: TagEvent) -> None:
        match event:
            case OwnTags(tags):
                self._tags = {}
                for tag in tags.values():
                    self._put(tag)
            case TagSet(tag):
                self._put(tag)
            case TagGone(name):
                self._drop(name)
            case TagsLost():
                pass

    def own(self, name: TagName) -> OwnTag | None:
        return self._tags.get(name.repository, {}).get(name)

    def newest(self, repository: Repository) -> TagName | None:
        """The tag that was pulled last: the likeliest to be still at the registry."""
        tags = self._tags.get(repository)
        return max(tags.values(), key=lambda tag: (tag.pulled_at_s, tag.name)).name if tags else None

    def to_be_known(self) -> Collection[Repository]:
        """Those of which it matters whether they are public."""
        if self._policy is not TagPolicy.UPSTREAM:
            return ()
        return [repository for repository in self._tags if not self._is_named(repository)]

    def is_told(self, repository: Repository, is_public: Callable[[Repository], bool]) -> bool:
        match self._policy:
            case TagPolicy.OFF:
                return False
            case TagPolicy.PEERS:
                return True
            case TagPolicy.UPSTREAM:
                return self._is_named(repository) or is_public(repository)

    def changes(self, is_public: Callable[[Repository], bool]) -> list[Command]:
        """What is to be announced and withdrawn now; it counts as done."""
        told = set(self._told_keys(is_public))
        added, gone = sorted(told - self._announced), sorted(self._announced - told)
        self._announced = told
        commands: list[Command] = []
        if added:
            commands.append(Announce(tuple(added)))
        if gone:
            commands.append(Withdraw(tuple(gone)))
        return commands

    def _told_keys(self, is_public: Callable[[Repository], bool]) -> Iterator[str]:
        for repository, tags in self._tags.items():
            if self.is_told(repository, is_public):
                for name in tags:
                    yield name.key

    def _put(self, tag: OwnTag) -> None:
        if tag.is_imported and self._policy is not TagPolicy.PEERS:
            # It may take the place of one that was pulled.
            self._drop(tag.name)
            return
        self._tags.setdefault(tag.name.repository, {})[tag.name] = tag

    def _drop(self, name: TagName) -> None:
        tags_there = self._tags.get(name.repository, {})
        tags_there.pop(name, None)
        if not tags_there:
            self._tags.pop(name.repository, None)
