"""The tags of a host that has none to tell: `--tags off`. Implements `TagSource`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from mirror.tags.source import OwnTags, TagEvent


class NoTags:
    async def watch_tags(self) -> AsyncGenerator[TagEvent, None]:
        """As `TagSource.watch_tags`."""
        yield OwnTags({})
        await asyncio.Event().wait()
