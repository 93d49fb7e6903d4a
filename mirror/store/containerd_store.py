"""The content of this host's containerd: the blobs of the watched namespaces, all of them, whatever their
labels.

Rules
1. What is here is what `Content.List` says, walked again whenever there is a sign of change (`walk_timer`):
   an event about content or images, of any namespace, or a file that comes or goes. The subscription is open
   before the first walk. 1.6 and 1.7 send no event when a blob lands, and no version when garbage collection
   removes one.
2. A blob's file is opened directly where it can be seen; else its bytes come over gRPC.
3. A file alone proves nothing: one folder holds the blobs of all namespaces. What no walk has seen is asked
   from containerd before it is served.
4. While containerd is away, what was known is still served from its files.

Writes nothing but for `discard_ingest`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from containerd.client import Client
from containerd.errors import ContainerdError, InvalidArgument, NotFound
from containerd.filters import matches
from containerd.types import Event
from mirror.errors import ContentNotFound, SettingsError, StoreUnavailable
from mirror.oci.digest import Digest, DigestInvalid
from mirror.store.base import Blob, ContentEvent
from mirror.store.blob_watch import BlobWatch
from mirror.store.containerd_blob import ContainerdBlob
from mirror.store.content_root import CONTENT_PATH_SETTING, ContentRoot, FileAbsent, FileUnreadable
from mirror.store.feed import ContentFeed
from mirror.store.file_blob import FileBlob
from mirror.store.miss_memory import MissMemory
from mirror.store.walk_timer import WalkTimer

log = logging.getLogger(__name__)

# How long to wait before containerd is tried again; it restarts in about a second.
RETRY_S = 1.0

SOCKET_SETTING = "--containerd-sock"
NAMESPACE_SETTING = "--containerd-namespace"

# Source: containerd, package `identifiers`; longer names are refused by every call.
_NAMESPACE = re.compile(r"(?=.{1,76}$)[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")

# Containers' and tasks' events are many, and say nothing about content.
_SIGNS = matches("topic", regex="^/(content|images)/")


class ContainerdStore:
    """Implements `ContentStore`. `content_path` None: containerd names the folder itself.

    Raises: SettingsError for a namespace that containerd cannot have.
    """

    def __init__(self, socket_path: Path, *, namespaces: Sequence[str], content_path: Path | None) -> None:
        for namespace in namespaces:
            if not _NAMESPACE.fullmatch(namespace):
                raise SettingsError(NAMESPACE_SETTING, f"{namespace!r} is not a name containerd accepts")
        if not namespaces:
            raise SettingsError(NAMESPACE_SETTING, "at least one namespace must be watched, such as k8s.io")
        self._socket_path = socket_path
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._content_path = content_path
        self._client: Client | None = None
        self._root: ContentRoot | None = None
        self._feed = ContentFeed()
        self._namespace_of: dict[Digest, str] = {}
        self._found_since_walk: dict[Digest, int] = {}
        self._misses = MissMemory()
        self._timer = WalkTimer()
        self._signed = asyncio.Event()
        self._unavailable: str | None = f"containerd at {socket_path} has not answered yet"
        self._unreadable_is_noted = False
        # As many as there are damaged files.
        self._wrong_sizes: set[Digest] = set()

    async def run(self) -> None:
        """As `ContentStore.run`. Raises: SettingsError for a socket path or a content path that cannot be
        right."""
        if self._content_path is not None:
            self._root = ContentRoot.given_by_operator(self._content_path)
        try:
            async with Client(self._socket_path) as self._client:
                await self._follow_for_ever(self._client)
        except InvalidArgument as exc:
            raise SettingsError(SOCKET_SETTING, str(exc)) from exc
        finally:
            self._client = None

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    @property
    def content_root(self) -> Path | None:
        """The folder that holds `blobs/` and `ingest/`; None: not known, or not to be seen from here."""
        return None if self._root is None else self._root.path

    def size_bytes(self, digest: Digest) -> int | None:
        return self._feed.size_bytes(digest)

    async def open(self, digest: Digest) -> Blob:
        file = self._open_file(digest)
        try:
            size_bytes = await self._size_to_serve(digest, file)
        except BaseException:
            if isinstance(file, FileBlob):
                file.close()
            raise
        if not isinstance(file, FileBlob):
            self._note_unreadable(file)
            content = self._answering().content(self._namespace_of[digest])
            return ContainerdBlob(content, digest, size_bytes)
        if file.size_bytes != size_bytes:
            file.close()
            self._note_wrong_size(digest, file.size_bytes, size_bytes)
            raise ContentNotFound(f"the file of {digest} is not that blob")
        self._unreadable_is_noted = False
        return file

    def watch(self) -> AsyncIterator[ContentEvent]:
        return self._feed.watch()

    async def discard_ingest(self, digest: Digest) -> None:
        try:
            for namespace in self._namespaces:
                content = self._answering().content(namespace)
                for status in await content.list_statuses():
                    # "layer-sha256:…", "manifest-sha256:…": what stands before the digest is the client's.
                    if status.ref.endswith(str(digest)):
                        with suppress(NotFound):
                            await content.abort(status.ref)
                            log.info("threw away the ingest %s in namespace %s", status.ref, namespace)
        except ContainerdError as exc:
            raise StoreUnavailable(f"the ingest of {digest} cannot be thrown away: {exc}") from exc

    def _open_file(self, digest: Digest) -> FileBlob | FileAbsent | FileUnreadable:
        if self._root is None:
            return FileUnreadable("containerd has not named the folder of its content")
        try:
            return self._root.open(digest)
        except OSError as exc:
            raise StoreUnavailable(f"the file of {digest} cannot be opened: {exc}") from exc

    async def _size_to_serve(self, digest: Digest, file: FileBlob | FileAbsent | FileUnreadable) -> int:
        """Raises: ContentNotFound, StoreUnavailable."""
        size_bytes = self._feed.size_bytes(digest)
        if size_bytes is not None and not isinstance(file, FileAbsent):
            return size_bytes
        if size_bytes is None and (
            isinstance(file, FileAbsent) or self._misses.holds(digest, time.monotonic())
        ):
            raise ContentNotFound(f"{digest} is not in containerd")
        # Committed a moment ago, in a namespace that is not watched, gone since the last walk, or in another
        # place.
        found_bytes = await self._ask(digest)
        if found_bytes is None:
            self._misses.note(digest, time.monotonic())
            if size_bytes is not None:
                self._sign()
            raise ContentNotFound(f"{digest} is not in containerd's namespaces {', '.join(self._namespaces)}")
        return found_bytes

    async def _ask(self, digest: Digest) -> int | None:
        """The size of a blob that a watched namespace has; it is known from now on."""
        for namespace in self._namespaces:
            try:
                info = await self._answering().content(namespace).info(str(digest))
            except NotFound:
                continue
            except ContainerdError as exc:
                raise StoreUnavailable(f"{digest}: {exc}") from exc
            if self._feed.size_bytes(digest) is None:
                self._sign()  # What came with it is new, too.
            self._namespace_of[digest] = namespace
            self._found_since_walk[digest] = info.size_bytes
            self._feed.add(digest, info.size_bytes)
            return info.size_bytes
        return None

    def _answering(self) -> Client:
        """Raises: StoreUnavailable at once, where a call would wait for its deadline."""
        if self._client is None or self._unavailable is not None:
            raise StoreUnavailable(self._unavailable or "the store is not running")
        return self._client

    async def _follow_for_ever(self, client: Client) -> None:
        while True:
            try:
                await self._follow(client)
            except* ContainerdError as group:
                self._lose(_first(group))
            await asyncio.sleep(RETRY_S)

    async def _follow(self, client: Client) -> None:
        """Raises: ContainerdError, alone or in a group, when containerd is away."""
        if self._content_path is None:
            await self._find_root(client)
        self._timer = WalkTimer()
        async with client.events.subscribe(_SIGNS) as events, asyncio.TaskGroup() as group:
            group.create_task(self._hear(events))
            if self._root is not None:
                group.create_task(self._see(self._root))
            group.create_task(self._walk_when_due(client))

    async def _find_root(self, client: Client) -> None:
        try:
            self._root = ContentRoot(await client.content_root())
        except NotFound as exc:
            log.info("%s; blobs come over gRPC", exc)
            self._root = None

    async def _hear(self, events: AsyncIterator[Event]) -> None:
        async for _ in events:
            self._sign()

    async def _see(self, root: ContentRoot) -> None:
        async with aclosing(BlobWatch([root.blob_folder]).changes()) as changes:
            async for _ in changes:
                self._sign()

    def _sign(self) -> None:
        self._timer.sign(time.monotonic())
        self._misses.forget_all()
        self._signed.set()

    async def _walk_when_due(self, client: Client) -> None:
        while True:
            self._signed.clear()
            wait_s = self._timer.wait_s(time.monotonic())
            if wait_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._signed.wait()
            else:
                self._timer.walk_begins(time.monotonic())
                await self._walk(client)
                self._timer.walk_ends(time.monotonic())

    async def _walk(self, client: Client) -> None:
        self._found_since_walk = {}
        sizes_bytes: dict[Digest, int] = {}
        namespace_of: dict[Digest, str] = {}
        for namespace in self._namespaces:
            async with aclosing(client.content(namespace).list()) as infos:
                async for info in infos:
                    try:
                        digest = Digest.parse(info.digest)
                    except DigestInvalid:
                        continue  # sha384, which containerd knows and the registry's clients do not use.
                    sizes_bytes[digest] = info.size_bytes
                    namespace_of.setdefault(digest, namespace)
        for digest, size_bytes in self._found_since_walk.items():
            sizes_bytes.setdefault(digest, size_bytes)
            namespace_of.setdefault(digest, self._namespace_of[digest])
        self._namespace_of = namespace_of
        self._feed.replace(sizes_bytes)
        if self._unavailable is not None:
            log.info("containerd at %s holds %d blobs", self._socket_path, len(sizes_bytes))
            self._unavailable = None

    def _lose(self, exc: ContainerdError) -> None:
        reason = str(exc)
        if self._unavailable != reason:
            log.warning("%s", reason)
        self._unavailable = reason
        self._feed.lost(reason)

    def _note_wrong_size(self, digest: Digest, found_bytes: int, expected_bytes: int) -> None:
        if digest not in self._wrong_sizes:
            self._wrong_sizes.add(digest)
            log.warning(
                "%s is not served: its file has %d bytes and should have %d. Check the disk, and pull its image again",
                digest,
                found_bytes,
                expected_bytes,
            )

    def _note_unreadable(self, file: FileAbsent | FileUnreadable) -> None:
        if self._unreadable_is_noted:
            return
        self._unreadable_is_noted = True
        path = self._root.path if self._root is not None else "unknown"
        reason = file.reason if isinstance(file, FileUnreadable) else "containerd keeps its blobs elsewhere"
        log.warning(
            "blobs cannot be read as files (%s) and come over gRPC, about ten times dearer. "
            "Mount the host's folder %s here, read-only, and name its place by %s if it is another one",
            reason,
            path,
            CONTENT_PATH_SETTING,
        )


def _first(group: BaseExceptionGroup[ContainerdError]) -> ContainerdError:
    for exc in group.exceptions:
        return exc if isinstance(exc, ContainerdError) else _first(exc)
    raise AssertionError("an empty group")
