"""`peili doctor`: looks at this host, or at a cluster, and prints what it found."""

from __future__ import annotations

import asyncio
import json
import os

import click

from mirror.cli.after_up import with_what_up_found
from mirror.cli.cluster_doctor import ClusterFlags, run_cluster
from mirror.cli.options import epilog, options, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.setting import Command

# Notes alone are no reason for it.
EXIT_FOUND = 3


def run(
    as_json: bool,
    of_cluster: bool,
    context: str | None,
    kubeconfig: str | None,
    namespace: str | None,
    release: str | None,
    **flags: str | tuple[str, ...] | None,
) -> int:
    """Raises: SettingsError, and what `run_cluster` does."""
    cluster = ClusterFlags(context, kubeconfig, namespace, release)
    _check_together(of_cluster, cluster, flags)
    if of_cluster:
        return EXIT_FOUND if run_cluster(cluster, as_json=as_json) else 0
    flags = dict(with_what_up_found(Command.DOCTOR, flags))
    resolved = resolve.doctor(load.read(Command.DOCTOR, flags, os.environ), machine.surroundings())
    print_warnings(resolved.warnings)

    from mirror.doctor import report
    from mirror.doctor.diagnosis import diagnose
    from mirror.doctor.gather import gather  # grpc

    facts = asyncio.run(gather(resolved.settings))
    findings = diagnose(facts)
    if as_json:
        click.echo(json.dumps(report.document(facts, findings), ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines(facts, findings)))
    return EXIT_FOUND if report.problem_count(findings) else 0


def _check_together(of_cluster: bool, cluster: ClusterFlags, flags: load.Flags) -> None:
    if of_cluster:
        alone = [f"--{name.replace('_', '-')}" for name, given in flags.items() if given]
        if alone:
            raise click.UsageError(f"{alone[0]} is for a host; each daemon of a cluster has its own settings")
        return
    names = ("context", "kubeconfig", "namespace", "release")
    alone = [f"--{name}" for name in names if getattr(cluster, name) is not None]
    if alone:
        raise click.UsageError(f"{alone[0]} is for a cluster: give --cluster as well")


_OTHERS = (
    click.Option(
        ["--json", "as_json"], is_flag=True, help="One JSON object on standard output (docs/doctor.md)."
    ),
    click.Option(
        ["--cluster", "of_cluster"],
        is_flag=True,
        help="Look at a Kubernetes cluster, through its API, in the place of this host. Needs peili[kubernetes].",
    ),
    click.Option(
        ["--context"], metavar="NAME", help="With --cluster: of the kubeconfig.  [default: its current one]"
    ),
    click.Option(
        ["--kubeconfig"],
        metavar="FILE",
        help="With --cluster.  [default: $KUBECONFIG, or ~/.kube/config]",
    ),
    click.Option(["--namespace"], metavar="NS", help="With --cluster: where the chart is.  [default: any]"),
    click.Option(["--release"], metavar="NAME", help="With --cluster: the chart's.  [default: the only one]"),
)

doctor = click.Command(
    Command.DOCTOR.value,
    help="Looks for what is wrong on this host, and says what it saw and how to mend it. Give it the settings of serve "
    "and configure. With --cluster it looks at all hosts of a Kubernetes cluster, and needs none of them. It changes "
    "nothing. Exit code 3: it found a problem; notes alone are 0.",
    params=[*options(Command.DOCTOR), *_OTHERS],
    callback=run,
    epilog=epilog(*_OTHERS),
)
