"""`peili up`: one command that makes a plain host a mirror. In which order, and what the user hears of it.

What is to be changed is decided in `mirror.host`; this calls configure and serve as a user would.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from mirror import whole_file
from mirror.cli import configure, serve
from mirror.cli.options import epilog, options, print_warnings
from mirror.data_dir import daemon_pid
from mirror.host import join_line, ledger, systemd, unit
from mirror.host.errors import HostError
from mirror.host.found import Choice, Installation
from mirror.host.handed import handed_on
from mirror.host.join_line import Invitation
from mirror.host.ledger import Ledger
from mirror.host.membership import Asked, Kept, Membership, invitation, settle
from mirror.host.plan import HostPlan
from mirror.host.service_facts import Program, proxies, service_facts
from mirror.secret import SECRET_BYTES, ClusterSecret
from mirror.settings import load, machine, resolve, table
from mirror.settings.load import Flags, Values
from mirror.settings.model import ServeSettings
from mirror.settings.setting import Command

# A restart of containerd takes a second or two, one of a whole distribution half a minute.
RESTART_TIMEOUT_S = 180.0
STDIN = "-"
PROGRAM = "peili"
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is no setting."""

    join: str | None
    is_closed: bool
    is_open: bool
    as_service: bool
    may_restart: bool


def run(flags: Flags, wishes: Wishes) -> int:
    """Raises: MirrorError, ContainerdError; what was changed until then is in the ledger, for down."""
    values = load.read(Command.UP, flags, os.environ)
    # What is odd about what was given is told before anything is changed; what is found is odd about nothing.
    data_dir = resolve.down(values, machine.surroundings(), machine.DEFAULT_DATA_DIR).settings.data_dir
    if os.geteuid() != 0:
        raise HostError(
            "peili up must be root to read what containerd holds and to write hosts.toml: sudo peili up"
        )
    if wishes.as_service and not systemd.is_here():
        raise HostError(
            "--systemd: systemd does not run this host; leave it out, and start peili up at boot yourself"
        )
    with ledger.begun(data_dir):
        known = ledger.load(data_dir) or Ledger()
        _check_nobody_serves(data_dir, known, wishes)
        member = _membership(values, data_dir, wishes, known)
        choice, plan = _look(values)
        _tell_what_was_found(choice, plan)
        given = load.given(Command.UP, flags, os.environ)
        handed = handed_on(given, plan, member, data_dir, Path.cwd())
        serve_flags = handed.flags(Command.SERVE)
        settings = resolve.serve(
            load.read(Command.SERVE, serve_flags, {}), machine.surroundings(), data_dir
        ).settings
        # In the ledger first, so that down finds what a crash leaves.
        ledger.save(data_dir, handed.kept(known, plan, member))
        _keep_secret(data_dir, member)
        _change_files(data_dir, plan)
        for configure_flags in handed.flags_of_configure(plan):
            configure.run(configure_flags)
        if plan.restart is not None:
            _restart(plan.restart, wishes)
        _tell_how_to_join(settings)
        if wishes.as_service:
            return _as_service(settings, choice.chosen, plan, serve_flags)
    click.echo(
        "serving; Ctrl-C ends it, and containerd then asks the registries alone. peili down undoes all of it.\n"
    )
    return serve.run(serve_flags)


def _check_nobody_serves(data_dir: Path, known: Ledger, wishes: Wishes) -> None:
    pid, is_service = daemon_pid(data_dir), known.service is not None
    if pid is None or (is_service and wishes.as_service):
        return
    how = "as a service of systemd: peili status" if is_service else f"as process {pid}: end it first"
    raise HostError(f"peili runs on this host already, {how}")


def _membership(values: Values, data_dir: Path, wishes: Wishes, known: Ledger) -> Membership:
    from mirror.host.look_network import own_addresses

    given = values.maybe(table.CLUSTER_SECRET_FILE)
    if given is not None:
        # One that cannot be read is told before anything is changed.
        ClusterSecret.load(Path(given))
    asked = Asked(
        invitation=_invitation(wishes.join),
        is_closed=wishes.is_closed,
        is_open=wishes.is_open,
        bootstrap=tuple(map(str, values.all(table.BOOTSTRAP))),
        cluster=values.one(table.CLUSTER) if values.is_given(table.CLUSTER) else None,
        has_secret_file=given is not None,
    )
    secret_file = next(iter(known.flags.get(table.CLUSTER_SECRET_FILE.field, ())), None)
    kept = Kept(_secrets(data_dir / ledger.SECRET_FILE), known.cluster, known.peers, secret_file)
    return settle(asked, kept, own_addresses())


def _invitation(text: str | None) -> Invitation | None:
    if text is None:
        return None
    # From standard input it is in no list of processes and in no shell's history.
    return join_line.read(sys.stdin.readline() if text == STDIN else text)


def _secrets(path: Path) -> tuple[bytes, ...]:
    return ClusterSecret.load(path).secrets if path.exists() else ()


def _look(values: Values) -> tuple[Choice, HostPlan]:
    from mirror.host.found import choose
    from mirror.host.look_host import look_host  # grpc
    from mirror.host.plan import plan

    settings = resolve.configure(values, machine.surroundings()).settings
    sock = settings.containerd_sock if values.is_given(table.CONTAINERD_SOCK) else None
    hosts_dir = str(settings.hosts.hosts_dir) if values.is_given(table.HOSTS_DIR) else None
    host = asyncio.run(look_host(sock))
    choice = choose(host, None if sock is None else str(sock))
    return choice, plan(host, choice.chosen, settings.hosts.registry_url, hosts_dir=hosts_dir)


def _tell_what_was_found(choice: Choice, plan: HostPlan) -> None:
    chosen = choice.chosen
    click.echo(f"{'found':<9}  containerd {chosen.socket.version} at {chosen.socket.sock}")
    print_warnings((*choice.notes, *plan.notes))


def _change_files(data_dir: Path, plan: HostPlan) -> None:
    reasons = {change.path: change.why for change in plan.changes}
    for done in ledger.make(data_dir, plan.changes):
        click.echo(f"{done.outcome.value:<9}  {done.path}: {reasons[done.path]}")


def _keep_secret(data_dir: Path, member: Membership) -> None:
    secret = os.urandom(SECRET_BYTES) if member.makes_secret else member.new_secret
    if secret is not None:
        whole_file.replace(data_dir / ledger.SECRET_FILE, ClusterSecret.line(secret))


def _restart(command: str, wishes: Wishes) -> None:
    if not wishes.may_restart:
        print_warnings((f"containerd takes this up after: {command}   (or: peili up --restart)",))
        return
    click.echo(f"{'runs':<9}  {command}")
    try:
        subprocess.run(["sh", "-c", command], check=True, timeout=RESTART_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as exc:
        raise HostError(f"{command}: {exc}; mend that, then run peili up again") from exc


def _tell_how_to_join(settings: ServeSettings) -> None:
    from mirror.host.look_network import own_addresses

    cluster = settings.cluster
    file = settings.cluster_secret_file
    secrets = () if file is None else ClusterSecret.load(file).secrets
    own = settings.advertise_addr or ("" if settings.peer_addr.is_every_address else settings.peer_addr.host)
    line = join_line.write(
        invitation(cluster, secrets, (own,) if own else own_addresses(), settings.peer_addr.port)
    )
    if secrets:
        click.echo(
            f"\nThe cluster {cluster!r} has a secret. On each other host, as root; the line is the secret:\n"
        )
    else:
        click.echo(
            f"\nThe cluster {cluster!r} is open: every host of this network that speaks its protocol takes part and "
            f"can read the images that are here. (peili up --closed makes a secret.)\n"
            f"Other hosts of this LAN join by themselves: peili up. Where multicast does not get through:\n"
        )
    click.echo(f"    peili up --join {line}\n")


def _as_service(
    settings: ServeSettings, chosen: Installation, plan: HostPlan, flags: Mapping[str, str | tuple[str, ...]]
) -> int:
    data_dir, environment = settings.data_dir, proxies(os.environ)
    if environment.hidden:
        names = ", ".join(environment.hidden)
        print_warnings(
            (f"{names} has a password and is left out: give it to the unit by systemctl edit peili",)
        )
    facts = service_facts(
        settings, chosen, plan, flags, _program(), environment.told, systemd_version=systemd.version()
    )
    known = ledger.load(data_dir) or Ledger()
    ledger.save(data_dir, msgspec.structs.replace(known, service=unit.UNIT_NAME))
    (done,) = ledger.make(data_dir, [unit.service(facts)])
    click.echo(f"{done.outcome.value:<9}  {done.path}")
    # The program may be another though the unit says the same.
    started = asyncio.run(systemd.start(restart=True))
    click.echo(
        f"{unit.UNIT_NAME}: {started.value}. peili status shows what it does, peili down undoes all of it."
    )
    return 0


def _program() -> Program:
    """As it was called, where that is a program; else by Python, and from where."""
    # They may lie in somebody's home.
    reads = (Path(sys.prefix), Path(sys.base_prefix), PACKAGE.parent)
    called = shutil.which(sys.argv[0])
    if called is not None and Path(called).name == PROGRAM:
        return Program((str(Path(called).absolute()),), None, reads)
    return Program((sys.executable, "-m", PACKAGE.name), str(PACKAGE.parent), reads)


_OTHERS = (
    click.Option(
        ["--join"],
        metavar="LINE",
        help="Join the cluster of the host whose peili up printed this line. -: read it from standard input.",
    ),
    click.Option(
        ["--closed", "is_closed"],
        is_flag=True,
        help="A cluster with a secret: only hosts with its join line take part.",
    ),
    click.Option(
        ["--open", "is_open"],
        is_flag=True,
        help="An open cluster also where this host has a public address.",
    ),
    click.Option(
        ["--systemd", "as_service"],
        is_flag=True,
        help="Install and start a systemd service in place of serving here.",
    ),
    click.Option(
        ["--restart", "may_restart"],
        is_flag=True,
        help="Restart containerd where it must be, to take up its configuration.",
    ),
)


def _called(
    join: str | None,
    is_closed: bool,
    is_open: bool,
    as_service: bool,
    may_restart: bool,
    **flags: str | tuple[str, ...] | None,
) -> int:
    return run(flags, Wishes(join, is_closed, is_open, as_service, may_restart))


up = click.Command(
    Command.UP.value,
    help="Makes this host a mirror: finds containerd and its configuration, has it ask the daemon first (hosts.toml), "
    "finds the other hosts of the LAN, and serves. Running it again changes nothing; down undoes it. All settings of "
    "serve and configure are taken, and none is needed.",
    params=[*_OTHERS, *options(Command.UP)],
    callback=_called,
    epilog=epilog(*_OTHERS),
)
