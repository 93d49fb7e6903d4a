"""What an import or an export has done, and what goes on meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mirror.archive.import_plan import ImageToImport, ImportPlan
from mirror.oci.digest import Digest

# Hears how many bytes more are done.
Report = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Done:
    """One name. `absent`: platforms that were left out, since nobody had them."""

    name: str
    digest: Digest
    size_bytes: int
    blobs_count: int
    already_there_count: int
    absent: tuple[str, ...]


def imported(plan: ImportPlan, already_there: Collection[Digest]) -> list[Done]:
    return [_done(plan, image, name, already_there) for image in plan.images for name in image.names]


def _done(plan: ImportPlan, image: ImageToImport, name: str, already_there: Collection[Digest]) -> Done:
    return Done(
        name,
        image.target.digest,
        sum(plan.blobs[digest].size_bytes for digest in image.blobs),
        len(image.blobs),
        sum(digest in already_there for digest in image.blobs),
        image.absent,
    )
