"""How dear it is to bring a layer from one complete peer to containerd: by splice, by spool (with its hash), and by the
copies that take the place of splice where the kernel refuses it: `make bench-splice`, one JSON line.

Measured: CPU seconds per GB (1e9 bytes) of a host of ours, all threads, for a blob of 1 GiB, and GB/s as its client
sees it. The source is nginx, so that it costs the host nothing; source and client on core 1, the host on core 0. Each
run is a process of its own, the ways interleaved. The lower bound is a bare loop of os.splice in the same run. The
ingest that the host sees is never written: what containerd would add is the same for all ways.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.web.splice import WAKE_BYTES
from mirror.web.vessel import PIPE_BYTES
from tests.bench import serve
from tests.support.debs import tool
from tests.support.free_ports import free_port
from tests.support.memory_ingests import MemoryIngests
from tests.support.mirror_host import mirror_host
from tests.support.missing import Missing

BLOB_BYTES = 1 << 30
REPEATS_COUNT = 3
WAYS = ("splice", "copy", "spool")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", choices=WAYS, help="be the host of one run")
    parser.add_argument("--source-port", type=int)
    parser.add_argument("--digest")
    parser.add_argument("--bytes", type=int, default=BLOB_BYTES)
    arguments = parser.parse_args()
    if arguments.host is not None:
        asyncio.run(_be_host(arguments.host, arguments.source_port, arguments.digest, arguments.bytes))
        return 0
    if os.geteuid() == 0 and serve.NAMESPACE_MARK not in os.environ:
        serve.enter_namespace("tests.bench.splice")
    found = tool("nginx")
    if isinstance(found, Missing):
        print(f"bench-splice cannot run: {found}", file=sys.stderr)
        return 1
    idle_percent = serve.idle_cpu_percent()
    with tempfile.TemporaryDirectory(prefix="peili-bench-") as text:
        result = _measure(Path(text), found, arguments.bytes)
    result["idle_cpu_percent_before"] = round(idle_percent, 1)
    result["void"] = idle_percent < serve.IDLE_MIN_PERCENT
    print(json.dumps(result))
    return 0


def _measure(work: Path, nginx: Path, size_bytes: int) -> dict[str, object]:
    digest = _fill(work / "peer" / "v1" / "blobs", size_bytes)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in (*WAYS, "lower_bound")}
    with _source(work, nginx) as port:
        for _ in range(REPEATS_COUNT):  # interleaved: the machine's speed drifts
            for way in WAYS:
                runs[way].append(_pull(way, port, digest, size_bytes))
            runs["lower_bound"].append(_bare_splice(port, digest, size_bytes))
    figures = {
        way: {key: round(statistics.median(run[key] for run in many), 4) for key in many[0]}
        for way, many in runs.items()
    }
    return {
        "bench": "splice",
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
        "congestion": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "blob_bytes": size_bytes,
        "ways": figures,
        "splice_to_spool": round(figures["splice"]["cpu_s_per_gb"] / figures["spool"]["cpu_s_per_gb"], 3),
    }


def _fill(folder: Path, size_bytes: int) -> str:
    folder.mkdir(parents=True)
    hasher = hashlib.sha256()
    with (folder / "part").open("wb") as file:
        for start in range(0, size_bytes, serve.READ_BYTES):
            chunk = os.urandom(min(serve.READ_BYTES, size_bytes - start))
            hasher.update(chunk)
            file.write(chunk)
    digest = f"sha256:{hasher.hexdigest()}"
    (folder / "part").rename(folder / digest)
    return digest


@contextlib.contextmanager
def _source(work: Path, nginx: Path) -> Iterator[int]:
    port = free_port()
    (work / "nginx").mkdir()
    config = work / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {work}/nginx/pid; error_log {work}/nginx/error.log;
user root;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; default_type application/octet-stream;
    client_body_temp_path {work}/nginx/a; proxy_temp_path {work}/nginx/b; fastcgi_temp_path {work}/nginx/c;
    uwsgi_temp_path {work}/nginx/d; scgi_temp_path {work}/nginx/e;
    server {{ listen 127.0.0.1:{port}; root {work}; }}
}}
"""
    )
    work.chmod(0o755)
    command = ["taskset", "-c", "1", str(nginx / "bin" / "nginx"), "-c", str(config)]
    process = subprocess.Popen([*command, "-p", str(work / "nginx")], stdin=subprocess.DEVNULL)
    with serve.ended(process):
        serve.wait_until(lambda: _listens(port))
        yield port


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _pull(way: str, source_port: int, digest: str, size_bytes: int) -> dict[str, float]:
    command = ["taskset", "-c", "0", sys.executable, "-m", "tests.bench.splice", "--host", way]
    command += ["--source-port", str(source_port), "--digest", digest, "--bytes", str(size_bytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None and process.stdout is not None
        port = int(process.stdout.readline())
        request = f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        before_s, started_s = serve.cpu_s(process.pid), time.monotonic()
        received = serve.receive(port, request)
        elapsed_s, used_s = time.monotonic() - started_s, serve.cpu_s(process.pid) - before_s
        process.stdin.close()
        spliced_bytes = int(process.stdout.readline())
    assert received > size_bytes, received
    assert spliced_bytes == (0 if way == "spool" else size_bytes), (way, spliced_bytes)
    gigabytes = size_bytes / 1e9
    return {"cpu_s_per_gb": used_s / gigabytes, "gb_per_s": gigabytes / elapsed_s}


async def _be_host(way: str, source_port: int, digest: str, size_bytes: int) -> None:
    """Until its input ends."""
    if way == "copy":

        def refuse(*_: object, **__: object) -> int:
            raise OSError(errno.EINVAL, "refused, for a comparison")

        os.splice = refuse
    ingests = MemoryIngests()
    ingests.begin(Digest.parse(digest), size_bytes)
    source = Peer("127.0.0.1", source_port)
    async with mirror_host(peers=[source], ingests=ingests, verify_always=way == "spool") as host:
        print(host.registry_url.rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(host.metrics.value("peili_spliced_bytes_total"), flush=True)
    ingests.close()


def _bare_splice(source_port: int, digest: str, size_bytes: int) -> dict[str, float]:
    """A process that does nothing else: nobody can be cheaper with the same kernel call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, {0})
            connection, _ = listener.accept()
            source = socket.create_connection(("127.0.0.1", source_port))
            request = f"GET /peer/v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            source.sendall(request.encode())
            source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_BYTES)
            outer, inner = os.pipe()
            fcntl.fcntl(inner, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            while taken := os.splice(source.fileno(), inner, PIPE_BYTES):
                while taken:
                    taken -= os.splice(outer, connection.fileno(), taken)
            connection.close()
            os._exit(0)
        started_s = time.monotonic()
        received = serve.receive(listener.getsockname()[1], b"")
        elapsed_s = time.monotonic() - started_s
        _, _, usage = os.wait4(pid, 0)
    assert received > size_bytes
    gigabytes = size_bytes / 1e9
    return {"cpu_s_per_gb": (usage.ru_utime + usage.ru_stime) / gigabytes, "gb_per_s": gigabytes / elapsed_s}


if __name__ == "__main__":
    sys.exit(main())
