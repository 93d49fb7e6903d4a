"""The port to the tags that this host's runtime has. Refuses to judge whether anybody may be told. Pure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mirror.tags.base import OwnTag, TagName


@dataclass(frozen=True, slots=True)
class OwnTags:
    """All of them. The first event of every watch, and the first after `TagsLost`."""

    tags: Mapping[TagName, OwnTag]


@dataclass(frozen=True, slots=True)
class TagSet:
    """A tag is new here, or it changed its digest or time."""

    tag: OwnTag


@dataclass(frozen=True, slots=True)
class TagGone:
    name: TagName


@dataclass(frozen=True, slots=True)
class TagsLost:
    """The runtime went away. What was known stays known until the next `OwnTags`."""

    reason: str


TagEvent = OwnTags | TagSet | TagGone | TagsLost


class TagSource(Protocol):
    """Construction does no I/O."""

    def watch_tags(self) -> AsyncGenerator[TagEvent, None]:
        """`OwnTags`, then every change, nothing lost between. Retries by itself when the runtime is away. Ends only by
        cancellation; a caller that leaves closes the generator itself (contextlib.aclosing)."""
        ...
