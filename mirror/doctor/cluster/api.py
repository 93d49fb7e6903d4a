"""The Kubernetes API by the package `kubernetes`, which reads kubeconfigs, runs their credential plugins and keeps TLS
right. The only module that imports it: an extra, not for the daemon nor its image.

Objects are read from the JSON as it came (`objects`), not by the package's own models: those refuse an object in which
a field lacks, and are slow with thousands. Commands run by `exec` over a WebSocket, subprotocol v4.channel.k8s.io
(reference: the source of Kubernetes' remotecommand): each message begins with the number of its channel, and the last
is a Status on channel 3, which says how the command ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
import yaml
from kubernetes.aio import client as kube_client
from kubernetes.aio import config as kube_config

from mirror.doctor.cluster.objects import ObjectList, Refusal
from mirror.doctor.cluster.port import ApiUnheard, ListRefused, NotRun, Printed

Item = TypeVar("Item")

# An API server answers a page in well under a second; one that is loaded queues for some.
ANSWER_LIMIT_S: Final = 30.0
PAGE_COUNT: Final = 500
# 20,000 objects: four times the largest cluster that Kubernetes is made for.
PAGES_MAX_COUNT: Final = 40
CONNECT_LIMIT_S: Final = 10.0
# As the admin API's largest document, and some.
OUT_MAX_BYTES: Final = 16 * 2**20
PROTOCOL: Final = "v4.channel.k8s.io"
OUT, ERR, STATUS = 1, 2, 3
DEFAULT_KUBECONFIG: Final = "~/.kube/config"
# Host names and paths in messages of the API.
_SAID_MAX_CHARS: Final = 300
_EXEC_REFUSED: Final = {
    HTTPStatus.UNAUTHORIZED: "the API does not take the credentials",
    HTTPStatus.FORBIDDEN: "the right to create and get pods/exec lacks",
    HTTPStatus.NOT_FOUND: "the pod is gone",
}


class KubeApi:
    """Implements `port.ClusterApi`. Made by `opened`."""

    def __init__(self, api: kube_client.ApiClient, session: aiohttp.ClientSession) -> None:
        self._api = api
        self._session = session

    async def items(self, path: str, kind: type[Item], *, labels: str = "", fields: str = "") -> list[Item]:
        found: list[Item] = []
        following = ""
        for _ in range(PAGES_MAX_COUNT):
            query = [("limit", str(PAGE_COUNT))]
            query += [
                (name, text)
                for name, text in (
                    ("labelSelector", labels),
                    ("fieldSelector", fields),
                    ("continue", following),
                )
                if text
            ]
            body = await self._get(path, query)
            try:
                page = msgspec.json.decode(body, type=ObjectList[kind])  # type: ignore[valid-type]
            except msgspec.MsgspecError as exc:
                raise ApiUnheard(f"what answers {path} is no Kubernetes API ({exc})") from exc
            found += page.items or ()
            following = page.metadata.next
            if not following:
                break
        return found

    async def _get(self, path: str, query: list[tuple[str, str]]) -> bytes:
        try:
            _, url, headers, _, _ = await self._api.param_serialize(
                "GET", path, query_params=query, header_params={}, auth_settings=["BearerToken"]
            )
            answer = await self._api.call_api("GET", url, headers, _request_timeout=ANSWER_LIMIT_S)
            body = await answer.read()
        except (OSError, aiohttp.ClientError) as exc:
            where = self._api.configuration.host
            raise ApiUnheard(f"the Kubernetes API at {where} does not answer: {_words(exc)}") from exc
        if answer.status == HTTPStatus.OK:
            return body
        said = _refusal(body)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise ApiUnheard(
                f"the Kubernetes API at {self._api.configuration.host} does not take the credentials of the context: "
                f"{said}"
            )
        raise ListRefused(said)

    async def run(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Printed:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        query = [("command", word) for word in command]
        query += [("container", container), ("stdout", "true"), ("stderr", "true")]
        settings = self._api.configuration
        try:
            _, url, headers, _, _ = await self._api.param_serialize(
                "GET", path, query_params=query, header_params={}, auth_settings=["BearerToken"]
            )
            async with self._session.ws_connect(
                url,
                headers=headers,
                protocols=(PROTOCOL,),
                ssl=self._api.rest_client.ssl_context,
                proxy=settings.proxy,
                proxy_headers=settings.proxy_headers,
                server_hostname=settings.tls_server_name,
                max_msg_size=OUT_MAX_BYTES,
            ) as socket:
                return await _printed(socket)
        except aiohttp.WSServerHandshakeError as exc:
            known = _EXEC_REFUSED.get(HTTPStatus(exc.status)) if exc.status in set(HTTPStatus) else None
            raise NotRun(known or f"the API server answers exec with status {exc.status}") from exc
        except (OSError, aiohttp.ClientError) as exc:
            raise NotRun(f"exec failed: {_words(exc)}") from exc


@asynccontextmanager
async def opened(kubeconfig: str | None, context: str | None) -> AsyncIterator[KubeApi]:
    """`kubeconfig` None: as kubectl takes it, $KUBECONFIG or ~/.kube/config. Raises: ApiUnheard."""
    named = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    if not await asyncio.to_thread(_is_there, named):
        raise ApiUnheard(f"there is no kubeconfig at {named}: give its --kubeconfig, or set KUBECONFIG")
    settings = kube_client.Configuration()
    try:
        # What a credential plugin renews is not written back: doctor changes nothing.
        await kube_config.load_kube_config(kubeconfig, context, settings, persist_config=False)
        # Once each: what does not answer is said, not waited for.
        settings.retries = None
        api = kube_client.ApiClient(settings)
    except (
        kube_config.ConfigException,
        yaml.YAMLError,
        OSError,
        ssl.SSLError,
        KeyError,
        TypeError,
        ValueError,
    ) as exc:
        raise ApiUnheard(
            f"{named} cannot be used{f' with context {context}' if context else ''}: {_words(exc)}"
        ) from exc
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
    async with api, aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        yield KubeApi(api, session)


def _is_there(named: str) -> bool:
    return any(Path(one).expanduser().is_file() for one in named.split(os.pathsep))


async def _printed(socket: aiohttp.ClientWebSocketResponse[Any]) -> Printed:
    texts = {OUT: bytearray(), ERR: bytearray(), STATUS: bytearray()}
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            continue
        channel, data = message.data[:1], message.data[1:]
        if channel and channel[0] in texts:
            texts[channel[0]] += data
        if sum(map(len, texts.values())) > OUT_MAX_BYTES:
            raise NotRun(f"the command printed more than {OUT_MAX_BYTES} bytes")
    return Printed(_exit_code(bytes(texts[STATUS])), bytes(texts[OUT]), bytes(texts[ERR]))


def _exit_code(status: bytes) -> int:
    """Of the Status object of channel 3. Raises: NotRun."""
    if not status:
        raise NotRun("the connection ended before the command did")
    try:
        told = json.loads(status)
        if told["status"] == "Success":
            return 0
        if told.get("reason") == "NonZeroExitCode":
            causes = told["details"]["causes"]
            return int(next(one["message"] for one in causes if one["reason"] == "ExitCode"))
        said = str(told.get("message", ""))
    except (ValueError, KeyError, TypeError, StopIteration) as exc:
        raise NotRun(f"the end of the command is not understood: {status[:_SAID_MAX_CHARS]!r}") from exc
    raise NotRun(_cut(said))


def _refusal(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body, type=Refusal)
    except msgspec.MsgspecError:
        return _cut(body.decode(errors="replace"))
    return _cut(told.message or told.reason)


def _words(exc: Exception) -> str:
    return _cut(str(exc) or type(exc).__name__)


def _cut(text: str) -> str:
    return " ".join(text.split())[:_SAID_MAX_CHARS]
