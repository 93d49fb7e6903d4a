"""A real nginx that serves blobs from a folder as a registry would, straight or by a redirect to a second server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.oci.digest import Digest
from tests.support.bed_process import BedProcess
from tests.support.free_ports import free_ports

_READY_TIMEOUT_S: Final = 15.0
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True)
class NginxOrigin:
    """`storage_port`: where a redirect leads. The access log has a line "port status first-byte-range sent_bytes"."""

    folder: Path
    port: int
    storage_port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    def blob_path(self, repository: str, digest: Digest) -> Path:
        """Where a blob is to be put."""
        path = self.folder / "root" / "v2" / repository / "blobs" / str(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log(self) -> list[tuple[int, int, str, int]]:
        """Port, status, Range header and bytes of the body, a request each, in the order in which they ended."""
        found = []
        for line in (self.folder / "access.log").read_text().splitlines():
            port, status, sent_bytes, asked = line.split(" ", 3)
            found.append((int(port), int(status), asked.strip("-"), int(sent_bytes)))
        return found


@contextlib.asynccontextmanager
async def nginx_origin(
    binaries: Path, folder: Path, *, is_redirecting: bool = False, ignores_range: bool = False
) -> AsyncIterator[NginxOrigin]:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    (folder / "root").mkdir(exist_ok=True)
    port, storage_port = free_ports(2)
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    front = f"return 307 http://127.0.0.1:{storage_port}$request_uri;" if is_redirecting else ""
    config = folder / "nginx.conf"
    config.write_text(
        "daemon off; worker_processes 1; "
        f"pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        # A path below a folder of root's is not everybody's.
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        "events { worker_connections 256; }\n"
        "http {\n"
        "    log_format one '$server_port $status $body_bytes_sent $http_range';\n"
        f"    access_log {folder}/access.log one; sendfile on; {temporary}\n"
        f"    {'max_ranges 0;' if ignores_range else ''}\n"
        f"    server {{ listen 127.0.0.1:{port}; root {folder}/root; location /v2/ {{ {front} }} }}\n"
        f"    server {{ listen 127.0.0.1:{storage_port}; root {folder}/root; }}\n"
        "}\n"
    )
    command: list[str | Path] = [binaries / "nginx", "-c", config, "-p", folder]
    async with BedProcess(command, folder / "nginx.log") as process:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while not await _answers(port):
                assert process.running, process.log()
                await asyncio.sleep(0.02)
        yield NginxOrigin(folder, port, storage_port)


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
