"""What `peili up` found on a host, as settings of configure and serve, and as the ledger keeps it. Pure.

Apart from `handing_on`, which commands need that know nothing of plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mirror.host.handing_on import Texts, flags_of
from mirror.host.ledger import SECRET_FILE, Ledger
from mirror.host.membership import Membership
from mirror.host.plan import HostPlan
from mirror.settings import table
from mirror.settings.setting import Command


@dataclass(frozen=True, slots=True)
class Handed:
    """`given` wins over `found`; its paths are below `working_dir`."""

    given: Texts
    found: Texts
    working_dir: Path

    def flags(self, command: Command) -> dict[str, str | tuple[str, ...]]:
        return flags_of(command, self.given, self.found, self.working_dir)

    def flags_of_configure(self, plan: HostPlan) -> Iterator[dict[str, str | tuple[str, ...]]]:
        """For each of the plan's hosts directories."""
        for one in plan.hosts_dirs:
            here = {
                table.HOSTS_DIR.field: (one.path,),
                table.CONTAINERD_CONFIG_PATH.field: (one.config_path,),
            }
            yield flags_of(Command.CONFIGURE, self.given, {**self.found, **here}, self.working_dir)

    def kept(self, known: Ledger, plan: HostPlan, member: Membership) -> Ledger:
        """What `down` must know before anything is changed. What an earlier `up` has written to stays named."""
        return msgspec.structs.replace(
            known,
            hosts_dirs=tuple(dict.fromkeys((*known.hosts_dirs, *(one.path for one in plan.hosts_dirs)))),
            restart=plan.restart or known.restart,
            cluster=member.cluster,
            peers=member.peers,
            flags={
                field: (texts,) if isinstance(texts, str) else texts
                for field, texts in self.flags(Command.UP).items()
            },
        )


def handed_on(given: Texts, plan: HostPlan, member: Membership, data_dir: Path, working_dir: Path) -> Handed:
    """The plan has the operator's --hosts-dir already, where this host's containerd looks there."""
    others = {field: texts for field, texts in given.items() if field != table.HOSTS_DIR.field}
    return Handed(others, found_texts(plan, member, data_dir), working_dir)


def found_texts(plan: HostPlan, member: Membership, data_dir: Path) -> dict[str, tuple[str, ...]]:
    """Of settings, by field."""
    found = {
        table.CONTAINERD_SOCK.field: (plan.serve.containerd_sock,),
        table.CONTAINERD_NAMESPACE.field: plan.serve.namespaces,
        table.HOSTS_DIR.field: (plan.serve.hosts_dir,),
        table.CONTAINERD_CONFIG_PATH.field: (plan.serve.containerd_config_path,),
        table.BOOTSTRAP.field: member.bootstrap,
        table.DATA_DIR.field: (str(data_dir),),
    }
    if member.cluster is not None:
        found[table.CLUSTER.field] = (member.cluster,)
    if member.keeps_secret:
        found[table.CLUSTER_SECRET_FILE.field] = (str(data_dir / SECRET_FILE),)
    return found
