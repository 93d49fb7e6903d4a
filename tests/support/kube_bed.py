"""A real Kubernetes API server on loopback: etcd and kube-apiserver, with RBAC, and no controllers and no kubelet.

So a DaemonSet makes no pods, and a pod stays where it is until the test says what a kubelet would (`set_phase`).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.bed_process import BedProcess
from tests.support.free_ports import free_ports

TOKEN: Final = "tests-only"
# Of a member of the group of docs/doctor-rights.yaml, who has no other right.
LOOKER_TOKEN: Final = "looker-only"
# Ready after four seconds; the machine may be busy.
READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1


class ApiError(Exception):
    """The API server refused; `status` is the HTTP code."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class KubeBed:
    """`async with KubeBed(etcd, kube_apiserver, folder) as kube`."""

    def __init__(self, etcd: Path, kube_apiserver: Path, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        client, peer, self._port = free_ports(3)
        etcd_url = f"http://127.0.0.1:{client}"
        (folder / "tokens").write_text(
            f"{TOKEN},tests,tests,system:masters\n{LOOKER_TOKEN},looker,looker,peili-doctors\n"
        )
        key = folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        self._etcd = BedProcess(
            [
                *(etcd, "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
                *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            ],
            folder / "etcd.log",
        )
        options = {
            "etcd-servers": etcd_url,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self._port,
            "cert-dir": folder / "certificates",
            "token-auth-file": folder / "tokens",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": "10.96.0.0/16",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            # It looks for accounts that a controller makes.
            "disable-admission-plugins": "ServiceAccount",
            # As a cluster's is.
            "allow-privileged": "true",
            "endpoint-reconciler-type": "none",
        }
        self._server = BedProcess(
            [kube_apiserver, *(f"--{name}={value}" for name, value in options.items())],
            folder / "kube-apiserver.log",
        )
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def __aenter__(self) -> Self:
        self._etcd.start()
        self._server.start()
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await asyncio.to_thread(self._is_ready):
                assert self._server.running, self._server.log()
                await asyncio.sleep(_POLL_S)
        self.kubeconfig.write_text(json.dumps(self._config()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.stop()
        await self._etcd.stop()

    def ask(self, path: str, method: str = "GET", body: object = None, kind: str = "application/json") -> Any:
        """Blocking. Raises: ApiError."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=READY_TIMEOUT_S, context=self._tls) as answer:
                text: bytes = answer.read()
        except urllib.error.HTTPError as refused:
            raise ApiError(refused.code, refused.read().decode(errors="replace")) from refused
        return json.loads(text) if text[:1] == b"{" else text.decode()

    def namespace(self, name: str, enforced: str = "privileged") -> None:
        labels = {"pod-security.kubernetes.io/enforce": enforced}
        self.ask("/api/v1/namespaces", "POST", {"metadata": {"name": name, "labels": labels}})

    def names(self, namespace: str) -> set[str]:
        """What stands in a namespace, as Kind/name; without what Kubernetes puts there itself."""
        found = set()
        for group, kinds in {
            "/api/v1": ("pods", "services", "secrets", "serviceaccounts", "configmaps"),
            "/apis/apps/v1": ("daemonsets", "deployments", "statefulsets"),
        }.items():
            for kind in kinds:
                items = self.ask(f"{group}/namespaces/{namespace}/{kind}")["items"]
                found |= {f"{kind}/{it['metadata']['name']}" for it in items}
        return {name for name in found if not name.startswith("secrets/sh.helm.release.")}

    def set_phase(self, namespace: str, pod: str, phase: str) -> None:
        """What a kubelet says of a pod that has ended."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/status"
        self.ask(path, "PATCH", {"status": {"phase": phase}}, "application/merge-patch+json")

    async def appears(self, path: str) -> Any:
        """The object, as soon as there is one."""
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                try:
                    return await asyncio.to_thread(self.ask, path)
                except ApiError as error:
                    if error.status != 404:
                        raise
                await asyncio.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        try:
            return bool(self.ask("/readyz") == "ok")
        except (OSError, ApiError):
            return False

    def _config(self) -> object:
        cluster = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": TOKEN}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }
