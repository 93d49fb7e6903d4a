"""`peili export`: images of this host into an archive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click

from mirror.archive.export_plan import plan_export
from mirror.archive.image_source import ImageSource
from mirror.archive.results import Done
from mirror.archive.selection import Choice, parse_choice
from mirror.cli.after_up import with_what_up_found
from mirror.cli.archives import progress, show_document, show_lines, warn_of_absent
from mirror.cli.options import command, print_warnings
from mirror.errors import SettingsError
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.model import ArchiveSettings
from mirror.settings.setting import Command

_IMAGES = "images"
_OUTPUT = "output"
_PLATFORM = "platform"
_JSON = "as_json"


def run(flags: Flags) -> int:
    """Raises: SettingsError, ArchiveInvalid, ImageNameInvalid, ImageAbsent, ExportFailed, ContainerdError."""
    given = click.get_current_context().params
    resolved = resolve.archive(
        load.read(Command.EXPORT, with_what_up_found(Command.EXPORT, flags), os.environ),
        machine.surroundings(),
    )
    print_warnings(resolved.warnings)
    choice = _choice(given[_PLATFORM])
    output: str = given[_OUTPUT]
    is_folder = output.endswith("/") or Path(output).is_dir()
    done = asyncio.run(_run(resolved.settings, given[_IMAGES], choice, Path(output).absolute(), is_folder))
    warn_of_absent(done, "the archive")
    if given[_JSON]:
        show_document(done, output=output)
    else:
        show_lines(done, tells_already_there=False)
    return 0


async def _run(
    settings: ArchiveSettings, images: Sequence[str], choice: Choice | None, target: Path, is_folder: bool
) -> list[Done]:
    if settings.store_dir is not None:
        from mirror.archive.from_directory import DirectorySource

        return await _export(DirectorySource(settings.store_dir), images, choice, target, is_folder)
    from containerd.client import Client  # grpc
    from mirror.archive.from_containerd import ContainerdSource

    async with Client(settings.containerd_sock) as client:
        source = ContainerdSource(client, settings.containerd_namespaces)
        return await _export(source, images, choice, target, is_folder)


async def _export(
    source: ImageSource, images: Sequence[str], choice: Choice | None, target: Path, is_folder: bool
) -> list[Done]:
    from mirror.archive.exporting import export

    plan = await plan_export(source, images, choice)
    with progress("exported", sum(sum(image.blobs.values()) for image in plan)) as report:
        return await export(source, plan, target, is_folder=is_folder, report=report)


def _choice(text: str | None) -> Choice | None:
    if text is None:
        return None
    choice = parse_choice(text)
    if choice is None:
        raise SettingsError(
            "--platform",
            f"{text[:100]!r} is no platform: expected all, or OS/ARCH[/VARIANT] such as linux/arm64",
        )
    return choice


export_images = command(
    Command.EXPORT,
    "Images of this host into one archive: an OCI layout that containerd, skopeo and Docker read, too. The same images "
    "give the same bytes.",
    run,
    click.Argument(["images"], metavar="IMAGE...", nargs=-1, required=True),
    click.Option(
        ["-o", "--output", _OUTPUT],
        metavar="FILE|DIR",
        required=True,
        help="A tar; or a folder, where that ends with a slash or is one already, and empty.",
    ),
    click.Option(
        ["--platform", _PLATFORM],
        metavar="all|OS/ARCH[/VARIANT]",
        help="What of an image for several platforms must be in it.  [default: what is on this host]",
    ),
    click.Option(["--json", _JSON], is_flag=True, help="One JSON object on standard output."),
)
