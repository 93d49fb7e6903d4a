"""Decides, from what stands in the hosts directories, which hosts.toml files are written and what they
will say.

It reads through `survey` and writes nothing: when there is a plan, all files have been validated.

Rules
1. The user's own directory for a registry counts alone, as it does for containerd. Only where he has
   none, what containerd would have come to instead (his `_default`, the next directory of a list) is
   merged in, and its paths are made to lead there.
2. What we wrote is never a source.
3. A `_default` of ours would hide a registry's directory in a later part of a list; such a registry gets
   a directory of its own in front of it, without fallback host.
4. Registries that an earlier run wrote stay: the daemon added some of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import relpath

from containerd.hosts import disk, manifest
from containerd.hosts.docker_daemon import DockerDaemon
from containerd.hosts.hosts_file import HostsFile, moved
from containerd.hosts.layout import Mirror, mirror_first, with_fallback
from containerd.hosts.manifest import Entry, Manifest, Original
from containerd.hosts.names import DEFAULT, Registry
from containerd.hosts.report import Action, Change
from containerd.hosts.search import SearchPath
from containerd.hosts.splice import splice
from containerd.hosts.survey import Place, survey, user_file


@dataclass(frozen=True, slots=True)
class Wish:
    """A registry that is to have a hosts.toml of ours; None is `_default`."""

    registry: Registry | None
    named: bool
    first_seen: bool = False

    @property
    def name(self) -> str:
        return DEFAULT if self.registry is None else self.registry.name

    @property
    def directories(self) -> tuple[str, ...]:
        return (DEFAULT,) if self.registry is None else self.registry.directories


@dataclass(frozen=True, slots=True)
class Write:
    directory: Path
    content: bytes
    meta: disk.Meta | None
    """Mode and owner; None for a file that has no model."""


@dataclass(frozen=True, slots=True)
class Plan:
    writes: tuple[Write, ...]
    originals: tuple[bytes, ...]
    """Contents that the new manifest names and an old one may not."""
    manifest: Manifest
    """As it must be on disk before the first write; it has the stale entries still."""
    stale: tuple[Entry, ...]
    """Written by an earlier run, wanted no more."""
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Outcome:
    change: Change
    write: Write | None = None
    entry: Entry | None = None
    original: bytes | None = None


class Planner:
    """One run over one hosts directory."""

    def __init__(
        self, hosts_dir: Path, mirror: Mirror, search: SearchPath, known: Manifest, docker: DockerDaemon
    ) -> None:
        self._hosts_dir = hosts_dir
        self._docker = docker
        self._mirror = mirror
        self._search = search
        self._known = known
        self._entries = {entry.path: entry for entry in known.entries}
        self._made = dict.fromkeys(known.made_directories)
        self._warnings = list(search.warnings)

    def plan(self, registries: Sequence[Registry], *, default: bool, alone: bool) -> Plan:
        """`alone`: these registries were first seen in requests, and nothing else is looked at.

        Raises: HostsFileInvalid, OSError.
        """
        wishes = self._wishes(registries, default=default, alone=alone)
        roots = [self._hosts_dir, *([Path(self._search.literal)] if self._search.literal else [])]
        outcomes = [self._outcome(root, wish) for root in roots for wish in wishes]
        entries = {outcome.entry.path: outcome.entry for outcome in outcomes if outcome.entry}
        others = {path: entry for path, entry in self._entries.items() if path not in entries}
        return Plan(
            tuple(outcome.write for outcome in outcomes if outcome.write),
            tuple(outcome.original for outcome in outcomes if outcome.original is not None),
            Manifest(
                tuple(self._made), tuple(sorted({**others, **entries}.values(), key=lambda it: it.path))
            ),
            () if alone else tuple(others.values()),
            tuple(outcome.change for outcome in outcomes),
            tuple(self._warnings),
        )

    def users_place(self, registry: Registry) -> Place | None:
        """Where the user's words for this registry stand. Raises: HostsFileInvalid, OSError."""
        wish = Wish(registry, True)
        return self._users_place(self._hosts_dir, wish, self._place(self._hosts_dir, wish))

    def _place(self, root: Path, wish: Wish) -> Place:
        there = [root / name for name in wish.directories if (root / name).is_dir()]
        return survey(there[0] if there else root / wish.directories[-1])

    def _wishes(self, registries: Sequence[Registry], *, default: bool, alone: bool) -> list[Wish]:
        if alone:
            operators = {it.registry for it in self._known.entries if it.named and not it.first_seen}
            return [Wish(registry, True, registry.name not in operators) for registry in registries]
        wishes = {registry.name: Wish(registry, True) for registry in registries}
        for entry in self._known.entries:
            registry = Registry.from_directory(entry.registry)
            if entry.named and registry is not None:
                wishes.setdefault(registry.name, Wish(registry, True, entry.first_seen))
        if default:
            for registry in self._hidden_by_default():
                wishes.setdefault(registry.name, Wish(registry, False))
            wishes[DEFAULT] = Wish(None, False)
        return list(wishes.values())

    def _hidden_by_default(self) -> Iterator[Registry]:
        if self._is_users(survey(self._hosts_dir / DEFAULT)):
            return
        for root in self._search.after:
            for name in disk.directories(Path(root)):
                registry = Registry.from_directory(name)
                if registry is not None and not self._has_own(registry):
                    yield registry

    def _has_own(self, registry: Registry) -> bool:
        return any(self._is_users(survey(self._hosts_dir / name)) for name in registry.directories)

    def _outcome(self, root: Path, wish: Wish) -> _Outcome:
        place = self._place(root, wish)
        if place.is_link:
            self._warnings.append(
                f"{place.path} is a symbolic link, and what is written there is seen under another name too: "
                f"left as it is; make it a directory to have {wish.name} mirrored"
            )
            return _Outcome(Change(wish.name, place.hosts_toml, Action.SKIPPED))
        if root == self._hosts_dir:
            self._warn_if_hidden(wish)
        source, user = self._source(root, wish, place)
        text = splice(place.text, self._wanted(wish, user), str(place.hosts_toml))
        return self._result(wish, place, source, text.encode())

    def _wanted(self, wish: Wish, user: HostsFile) -> HostsFile:
        if wish.registry is not None:
            user = self._docker.merged(wish.registry, user, self._mirror.containerd_version)
        if wish.registry is None or not wish.named or self._mirror.tags == "off":
            return mirror_first(user, self._mirror)
        return with_fallback(wish.registry, user, self._mirror)

    def _source(self, root: Path, wish: Wish, place: Place) -> tuple[Place | None, HostsFile]:
        """Where the user's words for this registry stand, and what they are, seen from `place`."""
        source = self._users_place(root, wish, place)
        if source is None:
            return None, HostsFile()
        file = user_file(source, self._mirror.containerd_version)
        return source, file if source is place else moved(file, relpath(source.path, place.path))

    def _users_place(self, root: Path, wish: Wish, place: Place) -> Place | None:
        if self._is_users(place):
            return place
        roots = [*map(Path, self._search.before), self._hosts_dir, *map(Path, self._search.after)]
        lookups = _lookups(roots if root == self._hosts_dir else [root, *roots], wish)
        return next(filter(self._is_users, map(survey, lookups)), None)

    def _warn_if_hidden(self, wish: Wish) -> None:
        first = next((path for path in _lookups(self._search.before, wish) if path.is_dir()), None)
        if first is not None:
            self._warnings.append(
                f"containerd comes to {first} before {self._hosts_dir}: {wish.name} is not mirrored"
            )

    def _is_users(self, place: Place) -> bool:
        if not place.exists:
            return False
        made_by_us = self._relative(place.path) in self._made or (
            # Without a manifest: a directory with nothing but our block in it.
            place.has_marks and self._relative(place.hosts_toml) not in self._entries
        )
        return place.user_wrote or not made_by_us

    def _result(self, wish: Wish, place: Place, source: Place | None, content: bytes) -> _Outcome:
        path = self._relative(place.hosts_toml)
        known = self._entries.get(path)
        current = None if place.found is None else place.found.content
        if known is not None and current is not None and manifest.digest(current) == known.written_sha256:
            original, saved = known.original, None
        else:
            original, saved = self._original(place, known)
        self._remember_made(place.path)
        entry = Entry(path, wish.name, wish.named, manifest.digest(content), original, wish.first_seen)
        if content == current:
            return _Outcome(Change(wish.name, place.hosts_toml, Action.UNCHANGED), None, entry, saved)
        # What is merged in from elsewhere may be secret there: its mode and owner come along.
        model = source.found if source is not None and source.found is not None else place.found
        write = Write(place.path, content, None if model is None else model.meta)
        return _Outcome(Change(wish.name, place.hosts_toml, Action.WRITTEN), write, entry, saved)

    def _original(self, place: Place, known: Entry | None) -> tuple[Original | None, bytes | None]:
        """The user's file as it is now, for a file that is not as we left it."""
        if place.found is None:
            return None, None
        content = place.text.encode()
        was_there = known is not None and known.original is not None
        if place.has_marks and not content.strip() and not was_there:
            return None, None
        meta = place.found.meta
        digest = manifest.digest(content)
        link = place.found.link
        return Original(digest, meta.mode, meta.uid, meta.gid, meta.mtime_ns, link), content

    def _remember_made(self, directory: Path) -> None:
        missing = []
        while not directory.exists():
            missing.append(self._relative(directory))
            directory = directory.parent
        self._made.update(dict.fromkeys(reversed(missing)))

    def _relative(self, path: Path) -> str:
        return relpath(path, self._hosts_dir)


def _lookups(roots: Iterable[str | Path], wish: Wish) -> Iterator[Path]:
    """The directories that containerd tries, in its order."""
    for root in roots:
        for name in dict.fromkeys((*wish.directories, DEFAULT)):
            yield Path(root, name)
