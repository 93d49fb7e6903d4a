"""How dear it is to serve from this host, next to nginx in the same run: `make bench-serve`, one JSON line.

Measured for the daemon (a directory store) and for nginx with sendfile: requests per second and CPU seconds for a
2 KiB manifest, CPU seconds per GB (1e9 bytes) for a 1 GiB blob; and the daemon's idle memory and CPU with 1,000 blobs,
200 members and 8,000 records of theirs (tests/bench/crowd.py: real nodes, after the other measurements). The physical
lower bound of the blob is a bare loop of os.sendfile in the same run. Server on core 0, client on core 1.
With root it runs in a network namespace of its own with `reno`: BBR, the default of some hosts, distorts loopback.
A run with less idle CPU than IDLE_MIN_PERCENT before it starts is void and says so.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mirror.secret import ClusterSecret
from tests.bench.crowd import crowd
from tests.support.debs import tool
from tests.support.free_ports import free_port, free_ports
from tests.support.missing import Missing

BLOB_BYTES = 1 << 30
BLOB_REPEATS_COUNT = 3
LOCAL_BLOBS_COUNT = 1000
MEMBERS_COUNT = 200
RECORDS_COUNT = 8000
SECRET = ClusterSecret((b"b" * 32,))
CLUSTER = "bench"
MANIFEST_SECONDS = 6
CONNECTIONS_COUNT = 16
# Memory is read this long after the last request. Shorter with --idle-seconds, for a quick look.
IDLE_SECONDS = 60
IDLE_MIN_PERCENT = 50.0
READ_BYTES = 1 << 20
NAMESPACE_MARK = "BENCH_OWN_NAMESPACE"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-seconds", type=int, default=IDLE_SECONDS)
    arguments = parser.parse_args()
    if os.geteuid() == 0 and NAMESPACE_MARK not in os.environ:
        enter_namespace("tests.bench.serve")
    for name in ("nginx", "wrk"):
        found = tool(name)
        if isinstance(found, Missing):
            print(f"bench-serve cannot run: {found}", file=sys.stderr)
            return 1
    idle_percent = idle_cpu_percent()
    with tempfile.TemporaryDirectory(prefix="peili-bench-") as text:
        result = _measure(Path(text), arguments.idle_seconds)
    result["idle_cpu_percent_before"] = round(idle_percent, 1)
    result["void"] = idle_percent < IDLE_MIN_PERCENT
    print(json.dumps(result))
    return 0


def _measure(work: Path, idle_seconds: int) -> dict[str, object]:
    manifest, blob = _fill(work / "store")
    with _nginx(work) as nginx, _peili(work) as peili:
        result: dict[str, object] = {
            "bench": "serve",
            "date": time.strftime("%Y-%m-%d"),
            "python": sys.version.split()[0],
            "congestion": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
            "blob_bytes": BLOB_BYTES,
            "local_blobs": LOCAL_BLOBS_COUNT,
        }
        urls = {
            "peili": (
                peili,
                f"http://127.0.0.1:{peili.port}/v2/a/manifests/sha256:{manifest}?ns=reg.example",
            ),
            "nginx": (nginx, f"http://127.0.0.1:{nginx.port}/blobs/sha256/{manifest}"),
        }
        result["manifest_2kib"] = {name: _wrk(server, url) for name, (server, url) in urls.items()}
        urls = {
            "peili": (peili, f"/v2/a/blobs/sha256:{blob}?ns=reg.example"),
            "nginx": (nginx, f"/blobs/sha256/{blob}"),
        }
        runs: dict[str, list[dict[str, float]]] = {"peili": [], "nginx": [], "lower_bound": []}
        for _ in range(BLOB_REPEATS_COUNT):  # interleaved: the machine's speed drifts
            for name, (server, path) in urls.items():
                runs[name].append(_download(server, path))
            runs["lower_bound"].append(_bare_sendfile(work / "store" / "blobs" / "sha256" / blob))
        result["blob"] = {
            name: {key: round(statistics.median(run[key] for run in many), 4) for key in many[0]}
            for name, many in runs.items()
        }
        result |= asyncio.run(_idle(peili, idle_seconds))
    return result


async def _idle(peili: _Peili, idle_seconds: int) -> dict[str, object]:
    async with crowd(
        MEMBERS_COUNT,
        RECORDS_COUNT,
        peer_port=peili.peer_port,
        admin_port=peili.admin_port,
        secret=SECRET,
        cluster=CLUSTER,
    ) as told:
        before_s = peili.cpu_s()
        await asyncio.sleep(idle_seconds)
        return {
            **told,
            "idle_seconds": idle_seconds,
            "idle_cpu_ms_per_s": round((peili.cpu_s() - before_s) * 1000 / idle_seconds, 2),
            "idle_rss_mib": round(_status_kib(peili.pids[0], "VmRSS") / 1024, 1),
            "peak_rss_mib": round(_status_kib(peili.pids[0], "VmHWM") / 1024, 1),
        }


class _Server:
    def __init__(self, port: int, pids: list[int]) -> None:
        self.port = port
        self.pids = pids

    def cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in self.pids)


class _Peili(_Server):
    def __init__(self, registry_port: int, peer_port: int, admin_port: int, pid: int) -> None:
        super().__init__(registry_port, [pid])
        self.peer_port = peer_port
        self.admin_port = admin_port


def _fill(store: Path) -> tuple[str, str]:
    """The digests of a 2 KiB manifest and of the large blob."""
    folder = store / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (store / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (store / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    for number in range(LOCAL_BLOBS_COUNT):
        data = f"blob {number}".encode()
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "0" * 64, "size": 1}
    document: dict[str, object] = {"schemaVersion": 2, "config": layer, "layers": [layer] * 13}
    data = json.dumps(document).encode().ljust(2048)
    manifest = hashlib.sha256(data).hexdigest()
    (folder / manifest).write_bytes(data)
    hasher = hashlib.sha256()
    part = folder / "part"
    with part.open("wb") as file:
        for _ in range(BLOB_BYTES // READ_BYTES):
            chunk = os.urandom(READ_BYTES)
            hasher.update(chunk)
            file.write(chunk)
    part.rename(folder / hasher.hexdigest())
    return manifest, hasher.hexdigest()


@contextlib.contextmanager
def _peili(work: Path) -> Iterator[_Peili]:
    ports = free_ports(3)
    secret = work / "secret"
    secret.write_bytes(base64.b64encode(SECRET.secrets[0]))
    secret.chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "mirror",
        "serve",
        "--store",
        "directory",
        "--store-dir",
        str(work / "store"),
    ]
    command += ["--data-dir", str(work / "data"), "--cache-size", "100GiB", "--log-level", "warning"]
    command += ["--cluster", CLUSTER, "--cluster-secret-file", str(secret)]
    for name, port in zip(("registry", "peer", "admin"), ports, strict=True):
        command += [f"--{name}-addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(["taskset", "-c", "0", *command], stdin=subprocess.DEVNULL)
    with ended(process):
        wait_until(lambda: _ready(f"http://127.0.0.1:{ports[2]}/readyz"))
        yield _Peili(ports[0], ports[1], ports[2], process.pid)


@contextlib.contextmanager
def _nginx(work: Path) -> Iterator[_Server]:
    port = free_port()
    (work / "nginx").mkdir()
    config = work / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {work}/nginx/pid; error_log {work}/nginx/error.log;
user root;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; default_type application/octet-stream;
    client_body_temp_path {work}/nginx/a; proxy_temp_path {work}/nginx/b; fastcgi_temp_path {work}/nginx/c;
    uwsgi_temp_path {work}/nginx/d; scgi_temp_path {work}/nginx/e;
    server {{ listen 127.0.0.1:{port}; root {work}/store; }}
}}
"""
    )
    work.chmod(0o755)
    found = tool("nginx")
    assert not isinstance(found, Missing)
    command = [
        "taskset",
        "-c",
        "0",
        str(found / "bin" / "nginx"),
        "-c",
        str(config),
        "-p",
        str(work / "nginx"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    with ended(process):
        wait_until(lambda: _ready(f"http://127.0.0.1:{port}/oci-layout"))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield _Server(port, [int(pid) for pid in children])


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wrk(server: _Server, url: str) -> dict[str, float]:
    found = tool("wrk")
    assert not isinstance(found, Missing)
    before_s = server.cpu_s()
    command = ["taskset", "-c", "1", str(found / "bin" / "wrk"), "-t1", f"-c{CONNECTIONS_COUNT}"]
    output = subprocess.run(
        [*command, f"-d{MANIFEST_SECONDS}s", url], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in output, output
    count = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec: *([0-9.]+)", output)
    assert count is not None and rate is not None, output
    cpu_us = (server.cpu_s() - before_s) * 1e6 / int(count[1])
    return {"requests_per_s": float(rate[1]), "cpu_us_per_request": round(cpu_us, 1)}


def _download(server: _Server, path: str) -> dict[str, float]:
    before_s, started_s = server.cpu_s(), time.monotonic()
    received = receive(
        server.port, f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
    )
    elapsed_s = time.monotonic() - started_s
    assert received >= BLOB_BYTES, received
    gigabytes = BLOB_BYTES / 1e9
    return {"cpu_s_per_gb": (server.cpu_s() - before_s) / gigabytes, "gb_per_s": gigabytes / elapsed_s}


def _bare_sendfile(file: Path) -> dict[str, float]:
    """A process that does nothing but os.sendfile: no server can be cheaper with the same kernel call."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, {0})
            connection, _ = listener.accept()
            with file.open("rb") as source:
                offset = 0
                while offset < BLOB_BYTES:
                    offset += os.sendfile(connection.fileno(), source.fileno(), offset, BLOB_BYTES - offset)
            connection.close()
            os._exit(0)
        started_s = time.monotonic()
        received = receive(listener.getsockname()[1], b"")
        elapsed_s = time.monotonic() - started_s
        _, _, usage = os.wait4(pid, 0)
    assert received == BLOB_BYTES
    gigabytes = BLOB_BYTES / 1e9
    return {"cpu_s_per_gb": (usage.ru_utime + usage.ru_stime) / gigabytes, "gb_per_s": gigabytes / elapsed_s}


def receive(port: int, request: bytes) -> int:
    os.sched_setaffinity(0, {1})
    buffer = bytearray(READ_BYTES)
    received = 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(request)
        while count := sock.recv_into(buffer):
            received += count
    os.sched_setaffinity(0, {0, 1})
    return received


def enter_namespace(module: str) -> None:
    script = (
        "ip link set lo up && echo reno >/proc/sys/net/ipv4/tcp_congestion_control && "
        f'exec "{sys.executable}" -m {module} "$@"'
    )
    os.environ[NAMESPACE_MARK] = "1"
    unshare = shutil.which("unshare")
    assert unshare is not None
    os.execv(unshare, [unshare, "--net", "sh", "-ec", script, "bench", *sys.argv[1:]])


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(done: object, limit_s: float = 20.0) -> None:
    assert callable(done)
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("a server did not get ready")
        time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """CPU time of all threads, in nanoseconds' resolution: ticks of 10 ms are too coarse for one blob."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _status_kib(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def idle_cpu_percent() -> float:
    def read() -> tuple[int, int]:
        numbers = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return numbers[3] + numbers[4], sum(numbers)

    before = read()
    time.sleep(2)
    after = read()
    return 100.0 * (after[0] - before[0]) / max(1, after[1] - before[1])


if __name__ == "__main__":
    sys.exit(main())
