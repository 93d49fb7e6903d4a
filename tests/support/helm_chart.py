"""Runs helm on the chart and reads what it renders. Knows no cluster, unless a kubeconfig is given."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.helm_tools import helm
from tests.support.skips import require

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CHART: Final = REPOSITORY / "helm" / "peili"
CASES: Final = REPOSITORY / "tests" / "chart" / "values"
RELEASE: Final = "peili"
NAMESPACE: Final = "peili-system"
# A render takes 0.1 s; the machine may be busy. Hooks of a test cluster take longer.
TIMEOUT_S: Final = 120.0
NEWEST: Final = "1.35.0"

Object = dict[str, Any]


class HelmError(Exception):
    """helm ended with an error; the text is what it said."""


def run(
    major: int, *arguments: str, home: Path, kubeconfig: Path | None = None, timeout_s: float = TIMEOUT_S
) -> str:
    """What helm printed. `home`: for its caches; nothing of the machine's settings counts. Raises: HelmError."""
    environment = {"PATH": os.defpath, "HOME": str(home), "HELM_CACHE_HOME": str(home / "cache")}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    done = subprocess.run(
        [require(helm(major)), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def values_file(folder: Path, values: Mapping[str, Any]) -> Path:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(dict(values)))
    return path


def nested(path: str, value: object) -> dict[str, Any]:
    """`a.b` and a value as values of the chart."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def template(
    major: int, home: Path, *values: Path, kube_version: str = NEWEST, release: str = RELEASE
) -> str:
    arguments = ["template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", kube_version]
    for path in values:
        arguments += ["--values", str(path)]
    return run(major, *arguments, home=home)


def objects(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]


def rendered(home: Path, values: Mapping[str, Any], major: int = 4) -> list[Object]:
    return objects(template(major, home, values_file(home, values)))


def one(found: list[Object], kind: str, suffix: str = "") -> Object:
    (match,) = [it for it in found if it["kind"] == kind and it["metadata"]["name"].endswith(suffix)]
    return match


def pod_specs(found: list[Object]) -> Iterator[tuple[str, Object]]:
    """Kind and name, and the spec, of every pod that would be made."""
    for it in found:
        name = f"{it['kind']}/{it['metadata']['name']}"
        if it["kind"] == "Pod":
            yield name, it["spec"]
        elif it["kind"] in ("DaemonSet", "StatefulSet", "Deployment", "Job"):
            yield name, it["spec"]["template"]["spec"]


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def settings_of(container: Object) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the process, as Kubernetes hands them over."""
    environment = {
        item["name"]: expanded(item["value"]) if "value" in item else "10.0.0.7"
        for item in container.get("env", [])
    }
    return [expanded(text) for text in container.get("args", [])], environment


def expanded(text: str) -> str:
    """`$$` is `$`. A reference to a variable would be `$(NAME)`; the chart makes none."""
    assert "$(" not in text.replace("$$", ""), f"{text!r} has a reference"
    return text.replace("$$", "$")
