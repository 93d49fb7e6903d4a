"""docs/settings.md, written from the table. Pure."""

from __future__ import annotations

from mirror.settings.setting import Command, Setting
from mirror.settings.table import settings_of

_HEAD = """\
# Settings

Generated from `mirror/settings/table.py` by `make docs`; do not edit.

A flag wins over its environment variable, and the variable over the default. An empty variable counts as
not set. A repeatable flag is given once for each value; its variable holds the values with commas between
them, and `\\,` stands for a comma inside a value. An unknown variable that begins with `PEILI_` is named in
a warning; the ones that Kubernetes injects for Services are not.

Sizes are whole bytes, or a number with `KiB`, `MiB` or `GiB`. Addresses are `ADDRESS:PORT`, with IPv6
addresses in brackets (`[::1]:29020`); an empty address (`:29021`) means every address of the host, and port
0 any free port.

A bad value ends the command with exit code 2 and a line that names the flag.
"""

_ABOUT = {
    Command.UP: "Makes a plain host a mirror: `peili configure` and `peili serve`, with what it finds on the host. "
    "What it is given here, it hands on.",
    Command.DOWN: "Undoes `peili up`.",
    Command.SERVE: "The daemon.",
    Command.CONFIGURE: "Writes containerd's hosts.toml files so that pulls ask the daemon first.",
    Command.CLEANUP: "Restores the hosts directory as it was before `peili configure`.",
    Command.CLEANUP_WAIT: "Waits until `peili cleanup --stay-addr` is done on many hosts.",
    Command.STATUS: "What the daemon of this host does. `--json` prints the document of the admin API "
    "([admin-api.md](admin-api.md)).",
    Command.PEERS: "Which other daemons it knows. `--json` as above.",
    Command.IMAGES: "Which images this host has, and what of them it gives to others. `--json` as above.",
    Command.DOCTOR: "What is wrong on this host, and the mend. Give it what `peili serve` and `configure` are given.",
    Command.IMPORT: "Images from archives into this host's store ([air-gap.md](air-gap.md)).",
    Command.EXPORT: "Images of this host into an archive.",
}


def render() -> str:
    """The whole page, with a line end at its end."""
    sections = [_HEAD]
    for command in Command:
        rows = "\n".join(_row(setting) for setting in settings_of(command))
        sections.append(
            f"## peili {command}\n\n{_ABOUT[command]}\n\n"
            f"| flag | variable | value | default | meaning |\n|---|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(sections)


def _row(setting: Setting[object]) -> str:
    default = f"`{setting.default}`" if setting.default and not setting.unset else setting.unset
    value = f"`{setting.shape}`, repeatable" if setting.is_repeatable else f"`{setting.shape}`"
    meaning = f"{setting.help} Example: `{setting.example}`."
    cells = (f"`{setting.flag}`", f"`{setting.variable}`", value, default, meaning)
    # A bar ends a cell, also inside code.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
