"""The command `peili`: which subcommands there are, and what a failure looks like outside.

Loads a subcommand only when it is asked for: the daemon must not carry what only a terminal needs, and
`--help` must not wait for either.

Exit codes: 0 done, 1 failed, 2 the command line or a setting is wrong, 3 doctor found a problem.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from containerd.errors import ContainerdError
from mirror.cli.showing import printable
from mirror.errors import MirrorError, SettingsError
from mirror.version import VERSION

PROGRAM = "peili"
EXIT_FAILED = 1
EXIT_USAGE = 2

# Name: (module, attribute, what `--help` says), in the order of `--help`.
_COMMANDS = {
    "demo": ("mirror.cli.demo", "demo", "A cluster on loopback that pulls an image, and what it saved."),
    "up": ("mirror.cli.up", "up", "Make this host a mirror, with one command."),
    "down": ("mirror.cli.down", "down", "Undo up."),
    "serve": ("mirror.cli.serve", "serve", "The daemon."),
    "configure": ("mirror.cli.configure", "configure", "Make containerd ask the daemon first (hosts.toml)."),
    "cleanup": ("mirror.cli.cleanup", "cleanup", "Undo configure."),
    "cleanup-wait": (
        "mirror.cli.cleanup_wait",
        "cleanup_wait",
        "Wait until cleanup is done on many hosts.",
    ),
    "status": ("mirror.cli.status", "status", "What this host's daemon does, and what it has moved."),
    "peers": ("mirror.cli.peers", "peers", "Which other daemons it knows."),
    "images": ("mirror.cli.images", "images", "Which images this host has, and what of them it gives."),
    "import": ("mirror.cli.import_images", "import_images", "Images from archives into this host's store."),
    "export": ("mirror.cli.export_images", "export_images", "Images of this host into an archive."),
    "doctor": ("mirror.cli.doctor", "doctor", "What is wrong on this host or in a cluster, and the mend."),
    "version": ("mirror.cli.version", "version", "Release, Python and wire version."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, _, help_text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(VERSION, message="%(prog)s %(version)s")
def peili() -> None:
    """A decentralised mirror for container images: hosts pull from each other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, the process's own where none is given, and returns the exit code."""
    try:
        result = peili.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.Abort:
        return _fail("interrupted")
    except (MirrorError, ContainerdError) as exc:
        return _report([exc])
    except BaseExceptionGroup as group:
        errors = expected_errors(group)
        if not errors:
            raise
        return _report(errors)
    return result if isinstance(result, int) else 0


def expected_errors(group: BaseExceptionGroup[BaseException]) -> list[Exception]:
    """What tasks failed with, one by one, where all of it is of the kind that a message explains; else
    nothing, since a defect must show its traceback."""
    found: list[Exception] = []
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            inner = expected_errors(exc)
            if not inner:
                return []
            found += inner
        elif isinstance(exc, MirrorError | ContainerdError):
            found.append(exc)
        else:
            return []
    return found


def _report(errors: Sequence[Exception]) -> int:
    for line in dict.fromkeys(str(error) for error in errors):
        _fail(line)
    return EXIT_USAGE if any(isinstance(error, SettingsError) for error in errors) else EXIT_FAILED


def _fail(message: str) -> int:
    # It may quote what others have written: an archive, a registry, a peer.
    shown = "\n".join(map(printable, message.split("\n")))
    click.echo(f"{PROGRAM}: {shown}", err=True)
    return EXIT_FAILED
