"""Runs a container of a rendered pod as a kubelet would, without a container engine: as root without any capability, on
a root file system that is read-only but for the pod's volumes, each of which is a mount point.

The host's tree is the machine's own, below folders that the test chooses by values of the chart. The image is this
checkout. Network and processes are the machine's. Needs root.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.bed_process import BedProcess
from tests.support.helm_chart import REPOSITORY, Object, settings_of

# Everything that a capability-less root of a pod is.
_CONFINED = "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all"


def make_host_paths(spec: Object) -> None:
    """What a kubelet makes before it starts a pod. Raises: FileNotFoundError where it would not start it."""
    for volume in spec["volumes"]:
        if "hostPath" not in volume:
            continue
        path = Path(volume["hostPath"]["path"])
        if volume["hostPath"]["type"] == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif not path.is_dir():
            raise FileNotFoundError(f"{path} is no directory, as volume {volume['name']} must be")


def container_process(spec: Object, name: str, log: Path, secrets: Mapping[str, Path]) -> BedProcess:
    """`secrets`: where the files of a Secret's volume are, by volume; the variables that name them are changed."""
    (container,) = [it for it in [*spec.get("initContainers", []), *spec["containers"]] if it["name"] == name]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    arguments, environment = settings_of(container)
    paths = {it["name"]: it["hostPath"]["path"] for it in spec["volumes"] if "hostPath" in it}
    lines = ["set -e"]
    read_only = []
    for mount in container["volumeMounts"]:
        if mount["name"] in secrets:
            inside = str(secrets[mount["name"]])
            environment = {key: text.replace(mount["mountPath"], inside) for key, text in environment.items()}
            continue
        # The chart mounts everything where it is on the host.
        assert mount["mountPath"] == paths[mount["name"]]
        path = shlex.quote(mount["mountPath"])
        lines.append(f"mount --bind {path} {path}")
        if mount.get("readOnly"):
            read_only.append(f"mount -o remount,bind,ro {path}")
    lines += ["mount -o remount,bind,ro /", *read_only]
    command = shlex.join([sys.executable, "-m", "mirror", *arguments])
    lines.append(f"exec {_CONFINED} {command}")
    more = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return BedProcess(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)],
        log,
        environment={**environment, **more},
    )
