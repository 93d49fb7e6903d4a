"""Two Kubernetes APIs that a ClusterPlan is put into: a stub over HTTP, and a real kube-apiserver with a kubelet that
only execs. Both are asked by the same tests.

The stub has what doctor asks: lists with selectors and pages of two, exec, and refusals as a real one words them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tests.support.cluster_plan import DAEMONSETS, EVENTS, KINDS, NODES, PODS, ClusterPlan
from tests.support.exec_answers import ExecAnswers, kubelet, serving
from tests.support.helm_chart import NAMESPACE, Object
from tests.support.kube_bed import ApiError, KubeBed
from tests.support.plan_api import selected

# So that a cluster of three has two pages.
PAGE_COUNT: Final = 2
TOKEN: Final = "tests-only"


@dataclass(slots=True)
class PlantedApi:
    """`kubeconfig`: of somebody who may do everything."""

    kubeconfig: Path
    answers: ExecAnswers


@asynccontextmanager
async def stub_api(
    plan: ClusterPlan, folder: Path, *, forbidden: tuple[str, ...] = ()
) -> AsyncIterator[PlantedApi]:
    """`forbidden`: ends of paths."""
    answers = ExecAnswers(plan)

    def refuse(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _refusal(401, "Unauthorized", "Unauthorized")
        if forbidden and request.path.endswith(forbidden):
            what = request.path.rpartition("/")[2]
            return _refusal(
                403, "Forbidden", f'{what} is forbidden: User "tests" cannot list resource "{what}"'
            )
        return None

    async def listed(request: web.Request) -> web.Response:
        if (refused := refuse(request)) is not None:
            return refused
        try:
            found = selected(plan, request.path, request.query)
        except AssertionError:
            # The API server's pods of kube-system are asked for by a path that has none.
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        start = int(request.query.get("continue", "0"))
        end = start + min(PAGE_COUNT, int(request.query["limit"]))
        meta = {"resourceVersion": "7"} | ({"continue": str(end)} if end < len(found) else {})
        return web.json_response(
            {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": found[start:end]}
        )

    async def run(request: web.Request) -> web.StreamResponse:
        if (refused := refuse(request)) is not None:
            return refused
        assert request.match_info["namespace"] == NAMESPACE
        assert request.query["stdout"] == request.query["stderr"] == "true"
        return await answers.answer(request, request.match_info["pod"], request.query["container"])

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/exec", run)
    app.router.add_get("/{path:.*}", listed)
    async with serving(app) as port:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config(f"http://127.0.0.1:{port}", TOKEN)))
        yield PlantedApi(kubeconfig, answers)


def _refusal(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.json_response({**status, "message": message, "reason": reason, "code": code}, status=code)


def config(server: str, token: str) -> Object:
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }


@asynccontextmanager
async def real_api(plan: ClusterPlan, kube: KubeBed) -> AsyncIterator[PlantedApi]:
    """Every object of the plan is in the API server while this lasts."""
    answers = ExecAnswers(plan)
    async with kubelet(answers, kube.folder) as port:
        try:
            await asyncio.to_thread(_plant, kube, plan, port)
            yield PlantedApi(kube.kubeconfig, answers)
        finally:
            await asyncio.to_thread(_clear, kube)


def _plant(kube: KubeBed, plan: ClusterPlan, kubelet_port: int) -> None:
    try:
        kube.namespace(NAMESPACE)
    except ApiError as error:
        if error.status != 409:
            raise
    for collection, it in plan.all_objects():
        version, kind = KINDS[collection]
        made = {"apiVersion": version, "kind": kind, **it}
        if collection == NODES:
            # Where the API server asks for exec.
            status = {**it["status"], "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}}
            made["status"] = {**status, "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
        path = _inside(collection, it)
        try:
            kube.ask(f"{path}?fieldValidation=Strict", "POST", _creatable(collection, made))
        except ApiError as error:
            raise AssertionError(f"{kind} {it['metadata']['name']}") from error
        if collection in (NODES, PODS, DAEMONSETS):
            name = it["metadata"]["name"]
            kube.ask(
                f"{path}/{name}/status", "PATCH", {"status": made["status"]}, "application/merge-patch+json"
            )


def _creatable(collection: str, it: Object) -> Object:
    meta = {key: value for key, value in it["metadata"].items() if key != "creationTimestamp"}
    made: dict[str, Any] = {**it, "metadata": meta}
    if collection == PODS:
        # The token's volume is what a real pod does without, too.
        made["spec"] = {**it["spec"], "serviceAccountName": "default"}
    return made


def _inside(collection: str, it: Object) -> str:
    namespace = it["metadata"].get("namespace")
    group, _, plural = collection.rpartition("/")
    return f"{group}/namespaces/{namespace}/{plural}" if namespace else collection


def _clear(kube: KubeBed) -> None:
    for collection in KINDS:
        for it in kube.ask(collection)["items"]:
            if collection == NODES or it["metadata"].get("namespace") == NAMESPACE:
                path = f"{_inside(collection, it)}/{it['metadata']['name']}"
                # Of the pods' own time to stop nobody waits here.
                body = {"gracePeriodSeconds": 0} if collection == PODS else None
                try:
                    kube.ask(path, "DELETE", body)
                except ApiError as error:
                    if error.status != 404:
                        raise
    assert not kube.ask(EVENTS.replace("/events", f"/namespaces/{NAMESPACE}/events"))["items"]
