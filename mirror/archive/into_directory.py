"""An import into the directory store, beside a daemon that may serve it meanwhile. Blocking.

Rules
1. A blob becomes visible whole and verified; names come last, in one step.
2. What is there already is read and verified, too: what an import names is right. It counts as just used to a daemon
   that starts later; one that runs goes by what it has given itself.
3. An import that the store's quota has no room for is refused before the first byte; what fits makes the daemon let go
   of what was used longest ago, as everything new does.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from mirror.archive.errors import ArchiveInvalid, ImportFailed
from mirror.archive.import_plan import BlobToWrite, ImportPlan
from mirror.archive.results import Done, Report, imported
from mirror.archive.store_index import NamedReference, check, put_names
from mirror.oci.byterange import ByteSpan
from mirror.store.file_hash import hash_span
from mirror.store.ingest_file import DigestMismatch
from mirror.store.oci_layout import OciLayout

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def import_into_directory(root: Path, quota_bytes: int, plan: ImportPlan, report: Report) -> list[Done]:
    """`plan`: every image has a name. Raises: ImportFailed, ArchiveInvalid, LayoutInvalid. No name is written then."""
    if plan.size_bytes > quota_bytes:
        raise ImportFailed(
            f"the images have {plan.size_bytes} bytes, and --cache-size is {quota_bytes}: {root} would not keep them. "
            "Give it more, here and to peili serve"
        )
    layout = OciLayout(root)
    already_there = set()
    try:
        layout.prepare()
        check(root)
        for blob in plan.in_order():
            if _is_there(layout, blob):
                already_there.add(blob.digest)
            else:
                _write(layout, blob, report)
        names = [NamedReference(name, image.target) for image in plan.images for name in image.names]
        put_names(root, names, time.time())
    except OSError as exc:
        reason = "the disk is full" if exc.errno in _FULL else str(exc)
        raise ImportFailed(f"{root} cannot be written: {reason}") from exc
    return imported(plan, already_there)


def _is_there(layout: OciLayout, blob: BlobToWrite) -> bool:
    path = layout.blob_path(blob.digest)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size != blob.size_bytes:
            return False
        hasher = blob.digest.hasher()
        if blob.size_bytes:
            hash_span(hasher, descriptor, ByteSpan(0, blob.size_bytes))
        if hasher.hexdigest() != blob.digest.encoded:
            return False
        os.utime(descriptor)
        return True
    finally:
        os.close(descriptor)


def _write(layout: OciLayout, blob: BlobToWrite, report: Report) -> None:
    file = layout.ingest_file(blob.digest, blob.size_bytes)
    try:
        file.create()
        for chunk in blob.chunks():
            file.write(chunk)
            report(len(chunk))
        file.seal()
        layout.publish(file)
    except DigestMismatch as exc:
        raise ArchiveInvalid(f"{blob.container.title}: {exc}: the archive is damaged") from exc
    finally:
        file.discard()
