"""Names that resolve to what a test says, to other addresses each time if it wants that."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


class ScriptedNames(AbstractResolver):
    """`answers`: for each name the addresses of its first question, its second and so on; the last answer stays."""

    def __init__(self, answers: dict[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(rounds) for name, rounds in answers.items()}
        self.asked: list[str] = []

    def answer(self, name: str, addresses: Sequence[str]) -> None:
        self._answers[name] = [addresses]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        rounds = self._answers.get(host.removesuffix("."))
        if rounds is None:
            raise OSError(f"{host}: no such name in this test")
        addresses = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        pass


def _result(host: str, port: int, address: str) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=int(socket.AI_NUMERICHOST | socket.AI_NUMERICSERV),
    )
