"""Which directories containerd looks through for a registry's directory, given its `config_path`.

It decides from strings and looks at no file system.

Rules
1. Where the setting is a list with colons, containerd takes the parts one after another, and in each the
   registry's own directory before `_default`: the first directory that exists wins, also an empty one.
   Source: containerd, `hostDirFromRoots` and `hostPaths`, read.
2. In transfer-service mode (the default from 2.1 on) it takes the whole list as one path. Measured on
   2.1: it then looks below a directory of that name, and nowhere else.
3. An unknown setting from 2.2 on is taken for the default there, which is such a list.
4. Our directory may be seen through a mount (`/host/etc/…`). What stands in front of the part of the
   setting that it ends with is the mount, and stands in front of the other parts too.
5. Nothing is guessed: a setting that does not name our directory is a warning.
6. Docker's own directory is read by dockerd, which has no such setting and looks nowhere else: rule 3 is not for it.
   Source: dockerd 28.5.2, daemon/hosts.go, read; seen.
"""

from dataclasses import dataclass
from posixpath import normpath

LIST_SINCE = (2, 2)
"""The first version whose default for `config_path` is a list."""

DEFAULT_LIST = "/etc/containerd/certs.d:/etc/docker/certs.d"


DOCKER_DIR = "/docker/certs.d"
"""How Docker's hosts directory ends: /etc/docker/certs.d, or below a home where it is rootless."""


@dataclass(frozen=True, slots=True)
class SearchPath:
    before: tuple[str, ...] = ()
    """Directories that containerd looks through before ours."""
    after: tuple[str, ...] = ()
    literal: str | None = None
    """The directory that has the whole list as its name (rule 2)."""
    warnings: tuple[str, ...] = ()


def search_path(
    hosts_dir: str, config_path: str | None, containerd_version: tuple[int, int] | None
) -> SearchPath:
    """`hosts_dir` is absolute; `config_path` is the effective setting, "" if it is unset, None if unknown."""
    if config_path is None:
        if containerd_version is None or containerd_version < LIST_SINCE or hosts_dir.endswith(DOCKER_DIR):
            return SearchPath()
        # Where our directory is not in the default list, the setting is another one, and we know nothing
        # of it.
        return _in_list(hosts_dir, DEFAULT_LIST) or SearchPath()
    found = _in_list(hosts_dir, config_path)
    if found is not None:
        return found
    if not config_path:
        return _warn(f"containerd's config_path is empty: it reads no hosts.toml; set it to {hosts_dir}")
    return _warn(f"containerd's config_path is {config_path}: it does not read what is below {hosts_dir}")


def _warn(text: str) -> SearchPath:
    return SearchPath(warnings=(text,))


def _in_list(hosts_dir: str, setting: str) -> SearchPath | None:
    parts = [normpath(part) for part in setting.split(":") if part]
    ours = next((part for part in parts if _is_end_of(hosts_dir, part)), None)
    if ours is None:
        return None
    mount = hosts_dir.removesuffix(ours)
    index = parts.index(ours)
    return SearchPath(
        tuple(mount + part for part in parts[:index]),
        tuple(mount + part for part in parts[index + 1 :]),
        mount + normpath(setting) if ":" in setting else None,
    )


def _is_end_of(path: str, part: str) -> bool:
    return part.startswith("/") and path.endswith(part)
