"""`peili import`: images from archives into this host's store."""

from __future__ import annotations

import asyncio
import contextlib
import os

import click

from mirror.archive.import_plan import named
from mirror.cli.after_up import with_what_up_found
from mirror.cli.archives import progress, show_document, show_lines, warn_of_absent
from mirror.cli.options import command, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.setting import Command

_PATHS = "paths"
_NAME = "name"
_JSON = "as_json"


def run(flags: Flags) -> int:
    """Raises: SettingsError, ArchiveInvalid, ImageNameInvalid, ImportFailed, LayoutInvalid, ContainerdError."""
    from mirror.archive.opening import opened
    from mirror.archive.reading import plan_import

    given = click.get_current_context().params
    values = load.read(Command.IMPORT, with_what_up_found(Command.IMPORT, flags), os.environ)
    resolved = resolve.archive(values, machine.surroundings())
    print_warnings(resolved.warnings)
    settings = resolved.settings
    with contextlib.ExitStack() as stack:
        containers = [
            stack.enter_context(opened(path, settings.data_dir)) for path in dict.fromkeys(given[_PATHS])
        ]
        plan = named([(one.title, plan_import(one)) for one in containers], given[_NAME])
        report = stack.enter_context(progress("imported", plan.size_bytes))
        if settings.store_dir is not None:
            from mirror.archive.into_directory import import_into_directory

            assert settings.cache_size_bytes is not None
            where = {"store": "directory", "directory": str(settings.store_dir)}
            done = import_into_directory(settings.store_dir, settings.cache_size_bytes, plan, report)
        else:
            from mirror.archive.into_containerd import import_into_containerd  # grpc

            namespace = settings.containerd_namespaces[0]
            where = {"store": "containerd", "namespace": namespace}
            done = asyncio.run(import_into_containerd(settings.containerd_sock, namespace, plan, report))
    warn_of_absent(done, "the archive")
    if given[_JSON]:
        show_document(done, **where)
    else:
        show_lines(done, tells_already_there=True)
    return 0


import_images = command(
    Command.IMPORT,
    "Images from archives into containerd, or into the directory store: OCI layouts (a folder, a tar, a tar.gz) and "
    "what docker save writes. - is standard input. All of it is verified before a name refers to it. The "
    "daemon of this host gives it to others, and with --tags peers its tags, too.",
    run,
    click.Argument(["paths"], metavar="PATH...", nargs=-1, required=True),
    click.Option(
        ["--name", _NAME],
        metavar="REF",
        help="The name of the image, where there is one: for one that has none, or in place of what it has.",
    ),
    click.Option(["--json", _JSON], is_flag=True, help="One JSON object on standard output."),
)
