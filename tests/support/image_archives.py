"""Archives of built images, as other programs write them: OCI layouts, and what docker save wrote until 24."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mirror.oci.layout import NAME_ANNOTATION, REF_ANNOTATION
from tests.support.oci_image import Blob, Image, Index

Files = dict[str, bytes]
MARKER: Final = b'{"imageLayoutVersion": "1.0.0"}'


def path_of(blob: Blob) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def layout_files(*named: tuple[Image | Index, str, str]) -> Files:
    """Each with its whole name and its reference name, empty: without. index.json is last, as tar writes it."""
    files = {"oci-layout": MARKER}
    entries = []
    for image, name, ref in named:
        files |= {path_of(blob): blob.content for blob in image}
        notes = {NAME_ANNOTATION: name, REF_ANNOTATION: ref}
        entries.append(
            image.manifest.descriptor | {"annotations": {key: text for key, text in notes.items() if text}}
        )
    return files | {"index.json": _json({"schemaVersion": 2, "manifests": entries})}


def docker_files(*tagged: tuple[Image, list[str]]) -> Files:
    """As docker save wrote until 24: plain layers, each in a folder of its own."""
    files: Files = {}
    entries = []
    for image, tags in tagged:
        name = f"{image.config.digest.removeprefix('sha256:')}.json"
        layers = []
        for layer in image.layers:
            folder = layer.digest.removeprefix("sha256:")
            layers.append(f"{folder}/layer.tar")
            files |= {f"{folder}/VERSION": b"1.0", f"{folder}/json": b"{}"}
            files[layers[-1]] = gzip.decompress(layer.content)
        files[name] = image.config.content
        entries.append({"Config": name, "RepoTags": tags or None, "Layers": layers})
    return files | {"manifest.json": _json(entries), "repositories": b"{}"}


def tar_of(files: Mapping[str, bytes], links: Iterable[tarfile.TarInfo] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in links:
            tar.addfile(entry)
    return out.getvalue()


def write_files(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
