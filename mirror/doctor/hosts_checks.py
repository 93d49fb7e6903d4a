"""What is wrong with the hosts.toml files. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from containerd.hosts.names import DEFAULT
from mirror.doctor.distribution import configure_command
from mirror.doctor.facts import Asked, Facts, HostsFacts, HostsFile
from mirror.doctor.finding import Code, Finding

# A line of evidence, not a listing.
_NAMED_MAX_COUNT = 5


def check(facts: Facts) -> Iterator[Finding]:
    hosts, asked = facts.hosts, facts.asked
    if hosts.unwritable:
        yield Finding(
            Code.HOSTS_UNWRITABLE,
            f"{asked.hosts_dir} cannot be written: neither configure nor the daemon can add entries",
            hosts.unwritable,
            ("run configure and serve as root, on a file system that is mounted read-write",),
        )
    invalid = [file for file in hosts.files if file.invalid]
    if invalid:
        yield Finding(
            Code.HOSTS_INVALID,
            "containerd cannot read a hosts.toml, and goes on as if it were not there",
            _listed([file.invalid for file in invalid]),
            ("mend the file, or move it away", configure_command(facts)),
        )
    if not any(_leads_here(file, asked) for file in hosts.files) and not hosts.is_configured:
        yield Finding(
            Code.HOSTS_ABSENT,
            f"no hosts.toml below {asked.hosts_dir} leads to the daemon: configure has not run there",
            "there is no such directory" if not hosts.exists else "no file has the marks of configure",
            (configure_command(facts),),
        )
        return
    yield from _shadowed(facts, hosts)
    if hosts.changed:
        yield Finding(
            Code.HOSTS_CHANGED,
            "files that configure wrote were changed by someone else since; what it repeats there may be out of date",
            _listed(hosts.changed),
            (configure_command(facts),),
        )
    away = [file for file in hosts.files if file.is_ours and file.first_host not in ("", asked.registry_url)]
    if away:
        yield Finding(
            Code.HOSTS_OTHER_ADDRESS,
            f"hosts.toml leads to another address than that of the daemon, {asked.registry_url}",
            _listed([f"{file.directory} asks {file.first_host}" for file in away]),
            (
                configure_command(facts),
                "or give serve and doctor the --registry-addr of the files, if that is where it shall listen",
                "or give doctor the address of the files as --configured-addr, if its port is forwarded to the daemon",
            ),
        )


def _shadowed(facts: Facts, hosts: HostsFacts) -> Iterator[Finding]:
    has_default = any(file.directory == DEFAULT and _leads_here(file, facts.asked) for file in hosts.files)
    named = set(facts.asked.mirrors)
    hidden = [
        file.directory
        for file in hosts.files
        if not (_leads_here(file, facts.asked) or file.invalid)
        # configure leaves loopback to the operator.
        and (not file.is_loopback or file.directory in named)
    ]
    if has_default and hidden:
        yield Finding(
            Code.HOSTS_SHADOWED,
            "registries have a directory of their own without our entry; it hides the entry of _default, so their "
            "pulls pass the daemon by",
            _listed(hidden),
            (configure_command(facts),),
        )


def _leads_here(file: HostsFile, asked: Asked) -> bool:
    """K3s and others write our endpoint into files of theirs, without marks."""
    return file.is_ours or file.first_host.removesuffix("/v2") == asked.registry_url


def _listed(items: list[str] | tuple[str, ...]) -> str:
    more = len(items) - _NAMED_MAX_COUNT
    return ", ".join(items[:_NAMED_MAX_COUNT]) + (f", and {more} more" if more > 0 else "")
