"""The end of `exec` in a pod, as a kubelet speaks it: WebSocket, v4.channel.k8s.io, answered by the daemons of a plan.

As a kubelet of 1.35 does: an empty message on each channel first, output in pieces, a Status at the end, then a close.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import WSCloseCode, web

from mirror.doctor.cluster.port import Printed
from tests.support.cluster_plan import ClusterPlan
from tests.support.helm_chart import Object

PROTOCOL: Final = "v4.channel.k8s.io"
# Pieces of output, so that a document of a hundred kilobytes comes in several.
PIECE_BYTES: Final = 1000
OUT, ERR, STATUS = b"\x01", b"\x02", b"\x03"


@dataclass(slots=True)
class ExecAnswers:
    """`internal`: pods in whose place the runtime fails; `cut`: pods whose connection ends early. `asked`: pod,
    container and command of each."""

    plan: ClusterPlan
    internal: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, list[str]]] = field(default_factory=list)

    async def answer(self, request: web.Request, pod: str, container: str) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        assert PROTOCOL in [one.strip() for one in offered], offered
        command = request.query.getall("command")
        self.asked.append((pod, container, command))
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        for channel in (OUT, ERR, STATUS):
            await socket.send_bytes(channel)
        if pod in self.cut:
            await socket.send_bytes(OUT + b'{"version": ')
            await socket.close(code=WSCloseCode.GOING_AWAY)
            return socket
        if pod in self.internal:
            await socket.send_bytes(STATUS + json.dumps(_internal()).encode())
        else:
            told = self.plan.daemons[pod].answer(command)
            for channel, text in ((OUT, told.out), (ERR, told.err)):
                for start in range(0, len(text), PIECE_BYTES):
                    await socket.send_bytes(channel + text[start : start + PIECE_BYTES])
            await socket.send_bytes(STATUS + json.dumps(_status(told)).encode())
        await socket.close()
        return socket


def _status(told: Printed) -> Object:
    if told.code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {told.code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(told.code)}]},
    }


def _internal() -> Object:
    return {
        "metadata": {},
        "status": "Failure",
        "message": "Internal error occurred: error executing command in container: container is not running",
        "reason": "InternalError",
        "details": {"causes": [{"message": "container is not running"}]},
        "code": 500,
    }


@asynccontextmanager
async def kubelet(answers: ExecAnswers, folder: Path) -> AsyncIterator[int]:
    """One that only execs, over TLS on loopback: its port. For an API server, which asks it for every pod."""

    async def run(request: web.Request) -> web.StreamResponse:
        assert request.query["output"] == "1"
        return await answers.answer(request, request.match_info["pod"], request.match_info["container"])

    app = web.Application()
    app.router.add_get("/exec/{namespace}/{pod}/{container}", run)
    async with serving(app, _tls(folder)) as port:
        yield port


@asynccontextmanager
async def serving(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()


def _tls(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=kubelet",
            ),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
