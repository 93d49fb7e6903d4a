"""What only this machine can tell about settings: what defaults depend on, and whether files and directories
are there and usable. Changes nothing but one thing: it makes the data directory.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

from mirror.errors import SettingsError
from mirror.secret import ClusterSecret, SecretInvalid, readable_by_others
from mirror.settings import resolve, table
from mirror.settings.model import ContainerdStoreSettings, DirectoryStoreSettings, ServeSettings
from mirror.settings.resolve import Surroundings
from mirror.settings.setting import Setting

DEFAULT_DATA_DIR = Path(resolve.DEFAULT_DATA_DIR)


def surroundings() -> Surroundings:
    return Surroundings(working_dir=Path.cwd(), has_ipv6=_has_ipv6(), is_terminal=sys.stderr.isatty())


def can_use(data_dir: Path) -> bool:
    """Whether this user may be expected to write there, now or after making it. Root may; where even root
    cannot, that is an error to tell, not one to avoid."""
    return os.geteuid() == 0 or os.access(data_dir, os.W_OK | os.X_OK)


def check_serve(settings: ServeSettings) -> list[str]:
    """Returns warnings. Raises: SettingsError."""
    warnings = _check_data_dir(settings.data_dir)
    if settings.cluster_secret_file is not None:
        warnings += _check_secret(settings.cluster_secret_file)
    match settings.store:
        case ContainerdStoreSettings() as store:
            _check_socket(store.containerd_sock)
            if store.containerd_content_path is not None:
                _check_content_path(store.containerd_content_path)
        case DirectoryStoreSettings() as store:
            if store.store_dir.exists() and not store.store_dir.is_dir():
                raise _error(table.STORE_DIR, f"{store.store_dir} is not a directory")
    return warnings


def _check_data_dir(path: Path) -> list[str]:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        mode = path.stat().st_mode
    except OSError as exc:
        raise _error(
            table.DATA_DIR, f"{path} cannot be written: {exc.strerror or exc}; choose another"
        ) from exc
    if mode & stat.S_IWOTH:
        return [f"--data-dir {path} can be written by every user of this host: chmod 700 {path}"]
    return []


def _check_secret(path: Path) -> list[str]:
    try:
        ClusterSecret.load(path)
    except SecretInvalid as exc:
        raise _error(table.CLUSTER_SECRET_FILE, str(exc)) from exc
    if readable_by_others(path):
        return [f"--cluster-secret-file {path} can be read by every user of this host: chmod 600 {path}"]
    return []


def _check_socket(path: Path) -> None:
    """A socket that is not there yet is fine: the daemon waits for containerd. One that will never do is
    not."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise _error(table.CONTAINERD_SOCK, f"{path} cannot be reached: {exc.strerror or exc}") from exc
    if not stat.S_ISSOCK(mode):
        raise _error(table.CONTAINERD_SOCK, f"{path} is not a socket")
    if not os.access(path, os.R_OK | os.W_OK):
        raise _error(
            table.CONTAINERD_SOCK,
            f"{path} cannot be opened: permission denied; run as root or as a user that may use it",
        )


def _check_content_path(path: Path) -> None:
    if not path.is_dir():
        raise _error(table.CONTAINERD_CONTENT_PATH, f"{path} does not exist or is not a directory")
    # containerd makes `ingest` at its start and `blobs` with the first image.
    if not any((path / name).is_dir() for name in ("blobs", "ingest")):
        raise _error(
            table.CONTAINERD_CONTENT_PATH,
            f"{path} is no content store: it has no blobs directory; "
            f"containerd's is usually io.containerd.content.v1.content in its root",
        )


def _has_ipv6() -> bool:
    """Whether an IPv6 wildcard can be bound; it then serves IPv4, too."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _error(setting: Setting[object], message: str) -> SettingsError:
    return SettingsError(setting.flag, message)
