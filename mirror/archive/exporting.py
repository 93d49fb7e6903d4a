"""Carries out an export: each blob from the host's store, hashed once more, into the archive."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from mirror.archive.archive_files import FileToWrite, files_of
from mirror.archive.archive_writer import ArchiveWriter, archive_writer
from mirror.archive.errors import ExportFailed
from mirror.archive.image_source import ImageSource
from mirror.archive.results import Done, Report
from mirror.archive.selection import ImageToExport
from mirror.store.disk_work import run_to_the_end


async def export(
    source: ImageSource, images: Sequence[ImageToExport], target: Path, *, is_folder: bool, report: Report
) -> list[Done]:
    """Raises: ExportFailed, ImageAbsent; nothing is at `target` then that was not there before."""
    with archive_writer(target, is_folder=is_folder) as writer:
        for file in files_of(images):
            await run_to_the_end(writer.begin, file.name, file.size_bytes)
            if file.digest is None:
                await run_to_the_end(writer.write, file.data)
            else:
                await _copy(source, file, writer, report)
    return [
        Done(
            image.name,
            image.target.digest,
            sum(image.blobs.values()),
            len(image.blobs),
            0,
            image.absent,
        )
        for image in images
    ]


async def _copy(source: ImageSource, file: FileToWrite, writer: ArchiveWriter, report: Report) -> None:
    assert file.digest is not None
    hasher = file.digest.hasher()
    copied_bytes = 0
    async with aclosing(source.chunks(file.digest)) as chunks:
        async for chunk in chunks:
            hasher.update(chunk)
            await run_to_the_end(writer.write, chunk)
            copied_bytes += len(chunk)
            report(len(chunk))
    if copied_bytes != file.size_bytes:
        raise ExportFailed(
            f"{file.digest} has {copied_bytes} bytes on this host, and what refers to it says {file.size_bytes}"
        )
    if hasher.hexdigest() != file.digest.encoded:
        raise ExportFailed(
            f"{file.digest} has other bytes on this host than its digest says: check the disk, and pull it again"
        )
