"""Each check by a table: what was seen, and the codes that follow. A host in order has none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from containerd.effective_config import EffectiveConfig
from mirror.doctor.diagnosis import diagnose
from mirror.doctor.facts import (
    Asked,
    ContainerdFacts,
    DaemonFacts,
    Facts,
    HostsFacts,
    HostsFile,
    ListenFacts,
    PeerReach,
    Port,
    PulledImage,
    Reach,
)
from mirror.doctor.finding import NOTES, Code, Finding, Level
from mirror.doctor.report import document, lines, problem_count
from mirror.host.distribution import DEFAULT_HOSTS_DIR, DEFAULT_REGISTRY_ADDR, STOCK_SOCK
from mirror.host.facts import Answer, ConfigFacts
from mirror.settings import table

CERTS = "/etc/containerd/certs.d"
LIST = f"{CERTS}:/etc/docker/certs.d"
ASKED = Asked(
    "/run/containerd/containerd.sock",
    CERTS,
    "127.0.0.1:29020",
    29020,
    True,
    "http://127.0.0.1:29020",
    "127.0.0.1:29020",
    False,
    29021,
    "127.0.0.1:29022",
    29022,
)
CONFIG = EffectiveConfig(CERTS, False, True, ())
CONTAINERD = ContainerdFacts(
    Answer.ANSWERS,
    version="2.1.9",
    release=(2, 1),
    namespaces=("k8s.io",),
    network="net:[1]",
    config=ConfigFacts("/etc/containerd/config.toml", CONFIG),
    content_root="/var/lib/containerd/io.containerd.content.v1.content",
)
OURS = HostsFile("_default", True, first_host="http://127.0.0.1:29020")
HOSTS = HostsFacts(True, True, (OURS, replace(OURS, directory="ghcr.io")))
LISTEN = ListenFacts(Port.OURS, bound=("127.0.0.1",), network="net:[1]")
DAEMON = DaemonFacts("1.0", 60.0, (), "", 3, ("static:10.0.0.8:29021",), 0)
HEALTHY = Facts(ASKED, CONTAINERD, HOSTS, LISTEN, DAEMON, release="1.0")


def config(config_path: str = CERTS, **more: object) -> Facts:
    told = replace(CONFIG, config_path=config_path)
    for name, value in more.items():
        told = replace(told, **{name: value})  # type: ignore[arg-type]
    return containerd(config=ConfigFacts("/etc/containerd/config.toml", told))


def containerd(**more: object) -> Facts:
    return replace(HEALTHY, containerd=replace(CONTAINERD, **more))  # type: ignore[arg-type]


def hosts(*files: HostsFile, **more: object) -> Facts:
    return replace(HEALTHY, hosts=replace(HOSTS, files=files or HOSTS.files, **more))  # type: ignore[arg-type]


def listen(**more: object) -> Facts:
    return replace(HEALTHY, listen=replace(LISTEN, **more))  # type: ignore[arg-type]


def daemon(**more: object) -> Facts:
    return replace(HEALTHY, daemon=replace(DAEMON, **more))  # type: ignore[arg-type]


def reaching(is_member: bool, *reaches: Reach) -> Facts:
    found = [PeerReach(f"10.0.0.{number}:29021", is_member, one) for number, one in enumerate(reaches, 1)]
    return replace(HEALTHY, peers=tuple(found))


def asked(facts: Facts = HEALTHY, **more: object) -> Facts:
    return replace(facts, asked=replace(ASKED, **more))  # type: ignore[arg-type]


PULLED = (PulledImage("ghcr.io/team/app:1", "ghcr.io"),)
PLANTED: list[tuple[Code, Facts, str]] = [
    (Code.CONTAINERD_ABSENT, containerd(answer=Answer.ABSENT), "systemctl start containerd"),
    (
        Code.CONTAINERD_ABSENT,
        containerd(answer=Answer.ABSENT, other_socks=("/run/k3s/containerd/containerd.sock",)),
        "--containerd-sock /run/k3s/containerd/containerd.sock",
    ),
    (Code.CONTAINERD_FORBIDDEN, containerd(answer=Answer.FORBIDDEN), "as root"),
    (Code.CONTAINERD_SILENT, containerd(answer=Answer.SILENT), "systemctl restart containerd"),
    (Code.CONTAINERD_TOO_OLD, containerd(release=(1, 5)), "upgrade"),
    (Code.CONTAINERD_OTHER_NETWORK, containerd(network="net:[2]"), "nsenter"),
    (Code.CONFIG_UNKNOWN, containerd(config=None), "on the host"),
    (Code.CONFIG_UNKNOWN, containerd(config=ConfigFacts("x", None, "broken")), "on the host"),
    (Code.CONFIG_PATH_UNSET, config(""), f'"io.containerd.cri.v1.images".registry]: config_path = "{CERTS}"'),
    (Code.CONFIG_PATH_UNSET, config("", legacy=("x.io",)), "have to go, too"),
    (Code.CONFIG_PATH_ELSEWHERE, config("/etc/other"), "--hosts-dir /etc/other"),
    (Code.CONFIG_PATH_LIST, config(LIST), f"peili configure --containerd-config-path {LIST}"),
    (Code.LEGACY_REGISTRY_TABLES, config(legacy=("x.io",)), "remove registry.mirrors"),
    (
        Code.RESTART_PENDING,
        containerd(config=ConfigFacts("/etc/containerd/config.toml", CONFIG, is_newer=True)),
        "systemctl restart containerd",
    ),
    (Code.LAYERS_DISCARDED, config(discards_layers=True), "nothing has to be done"),
    (Code.CONTENT_UNREADABLE, containerd(content_trouble="permission denied"), "--containerd-content-path"),
    (Code.HOSTS_ABSENT, replace(HEALTHY, hosts=HostsFacts(False)), "peili configure"),
    (Code.HOSTS_ABSENT, replace(HEALTHY, hosts=HostsFacts(True)), "peili configure"),
    (Code.HOSTS_SHADOWED, hosts(OURS, HostsFile("quay.io", False)), "peili configure"),
    (Code.HOSTS_CHANGED, hosts(changed=("x was edited",)), "peili configure"),
    # What configure wrote is known, and was replaced whole.
    (Code.HOSTS_CHANGED, hosts(replace(OURS, is_ours=False), changed=("x was edited",)), "peili configure"),
    (Code.HOSTS_INVALID, hosts(OURS, HostsFile("quay.io", False, invalid="line 3")), "move it away"),
    (Code.HOSTS_OTHER_ADDRESS, hosts(replace(OURS, first_host="http://127.0.0.1:5000")), "peili configure"),
    (Code.HOSTS_UNWRITABLE, hosts(unwritable="read-only"), "read-write"),
    (Code.REGISTRY_CLOSED, listen(port=Port.CLOSED), "peili serve"),
    (Code.REGISTRY_TAKEN, listen(port=Port.TAKEN, owner="nginx (process 7)"), "--registry-addr"),
    # Another program's address is its own affair.
    (Code.REGISTRY_TAKEN, listen(port=Port.TAKEN, bound=("0.0.0.0",)), "--registry-addr"),
    (Code.REGISTRY_ROUTABLE, listen(bound=("0.0.0.0",)), "--registry-addr 127.0.0.1:29020"),
    (Code.REGISTRY_ROUTABLE, listen(bound=("127.0.0.1", "10.0.0.7")), "--registry-addr 127.0.0.1:29020"),
    (Code.PORT_IN_NODEPORT_RANGE, asked(registry_port=30020), "outside of the range"),
    (Code.PORT_IN_NODEPORT_RANGE, asked(peer_port=32767), "outside of the range"),
    (Code.ADMIN_SILENT, replace(HEALTHY, daemon=None, admin_trouble="refused"), "--admin-addr"),
    (Code.DAEMON_NOT_READY, daemon(unready=("containerd is away",)), "mend what it names"),
    (Code.DAEMON_TROUBLE, daemon(trouble="no such name"), "mend what it names"),
    (
        Code.DAEMON_TROUBLE,
        daemon(members=0, bootstrap=("lan",), trouble="UDP port 29024 for beacons cannot be bound"),
        "mend what it names",
    ),
    (Code.NO_PEERS, daemon(members=0, trouble="nobody answers at x"), "--cluster-secret-file"),
    (Code.ALONE_ON_LAN, daemon(members=0, bootstrap=("lan",)), "peili up on another host"),
    (Code.PEER_PORT_BLOCKED, reaching(True, Reach.REACHED, Reach.DROPPED), "TCP and UDP"),
    (Code.NO_BOOTSTRAP, daemon(members=0, bootstrap=()), "--bootstrap"),
    (Code.SECRET_MISMATCH, daemon(members=0, bootstrap=None, refused={"foreign": 2}), "sha256sum"),
    (Code.SECRET_MISMATCH, daemon(members=0, bootstrap=None, refused={"mac": 1}), "sha256sum"),
    (Code.SECRET_MISMATCH, daemon(members=0, bootstrap=("lan",), refused={"foreign": 2}), "sha256sum"),
    (Code.STRANGERS_REFUSED, daemon(refused={"foreign": 2}), "another cluster"),
    (Code.CLOCK_SKEW, daemon(clock_offset_s=90.0), "timedatectl"),
    (Code.CLOCK_SKEW, daemon(clock_offset_s=-90.0), "timedatectl"),
    (Code.WIRE_VERSION_SKEW, daemon(refused={"version": 1}), "same release"),
    (Code.OTHER_RELEASE, daemon(version="0.9"), "restart the daemon"),
    (Code.NOBODY_ASKED, containerd(pulled=PULLED), "restart containerd"),
    (Code.NOBODY_ASKED, asked(containerd(pulled=PULLED), mirrors=("ghcr.io",)), "restart containerd"),
]


def test_a_host_in_order_has_no_finding() -> None:
    assert diagnose(HEALTHY) == ()


@pytest.mark.parametrize(
    ("code", "facts", "mend"), PLANTED, ids=[f"{n}-{code}" for n, (code, _, _) in enumerate(PLANTED)]
)
def test_what_is_wrong_is_found_alone_with_its_mend(code: Code, facts: Facts, mend: str) -> None:
    (finding,) = diagnose(facts)
    assert finding.code is code
    assert mend in " | ".join(finding.mend)
    assert finding.what and "\n" not in finding.what + finding.evidence + "".join(finding.mend)
    assert finding.level is (Level.NOTE if code in NOTES else Level.PROBLEM)


def test_every_code_is_planted() -> None:
    assert {code for code, _, _ in PLANTED} == set(Code)


@pytest.mark.parametrize(
    "facts",
    [
        # What configure wrote for a list that is one path, 1.7 that splits it, and CRI that pulls by itself.
        replace(config(LIST), hosts=replace(HOSTS, has_literal=True)),
        config(LIST, uses_transfer_service=False),
        # A mount in front of the hosts directory.
        asked(hosts_dir=f"/host{CERTS}"),
        # Not Kubernetes.
        asked(containerd(namespaces=("moby",)), registry_port=30020),
        # What configure wrote is not known, and the files have its marks.
        hosts(is_configured=False),
        # What _default does not serve, or the operator did not name.
        hosts(replace(OURS, directory="ghcr.io"), HostsFile("quay.io", False, first_host="http://10.0.0.1")),
        # Nor what the operator's own _default serves.
        hosts(replace(OURS, directory="ghcr.io"), HostsFile("_default", False), HostsFile("quay.io", False)),
        hosts(OURS, HostsFile("localhost:5000", False, is_loopback=True)),
        # The network of nobody can be seen; it was asked for to listen elsewhere.
        containerd(network=None),
        listen(network=None),
        asked(containerd(network="net:[2]"), registry_is_loopback=False),
        daemon(clock_offset_s=4.0),
        daemon(refused={"foreign": 0, "clock": 3}),
        # An older daemon does not say what it was asked, nor how it bootstraps.
        replace(containerd(pulled=PULLED), daemon=replace(DAEMON, requests=None)),
        replace(containerd(pulled=PULLED), daemon=replace(DAEMON, requests=1)),
        daemon(members=0, bootstrap=None),
        # Another host found it.
        daemon(bootstrap=()),
        # config_path is CRI's: Docker and nerdctl have directories of their own.
        config("", has_cri=False),
        asked(config(""), namespaces=("moby",)),
        asked(config(""), sock="/run/docker/containerd/containerd.sock"),
        # What K3s made of a registries.yaml with our endpoint.
        hosts(
            HostsFile("_default", False, first_host="http://127.0.0.1:29020/v2"),
            HostsFile("ghcr.io", False, first_host="http://127.0.0.1:29020/v2"),
            is_configured=False,
        ),
        # A port that is forwarded to the daemon: it must end at an address that others may reach.
        asked(listen(bound=("0.0.0.0",)), is_forwarded=True),
        # One that is starting again, and a first peer that is away while others are known.
        reaching(True, Reach.REACHED, Reach.REFUSED),
        reaching(False, Reach.DROPPED),
        # Another registry is not mirrored.
        asked(containerd(pulled=PULLED), mirrors=("quay.io",)),
    ],
)
def test_what_is_no_fault(facts: Facts) -> None:
    assert diagnose(facts) == ()


def test_an_address_that_the_operator_named_is_shadowed_as_any_other() -> None:
    facts = asked(
        hosts(OURS, HostsFile("127.0.0.1:5000", False, is_loopback=True)), mirrors=("127.0.0.1:5000",)
    )
    (finding,) = diagnose(facts)
    assert finding.code is Code.HOSTS_SHADOWED
    assert finding.mend == ("peili configure --mirror 127.0.0.1:5000",)


@pytest.mark.parametrize(
    ("sock", "has_rke2", "restart"),
    [
        ("/run/containerd/containerd.sock", False, "systemctl restart containerd"),
        ("/run/k3s/containerd/containerd.sock", False, "systemctl restart k3s ||"),
        ("/run/k3s/containerd/containerd.sock", True, "systemctl restart rke2-server ||"),
        ("/var/snap/microk8s/common/run/containerd.sock", False, "snap restart microk8s"),
    ],
)
def test_a_mend_is_for_this_kind_of_host(sock: str, has_rke2: bool, restart: str) -> None:
    facts = asked(replace(config(""), has_rke2=has_rke2), sock=sock)
    (finding,) = diagnose(facts)
    assert finding.mend[-1].startswith(restart)


def test_a_mend_gives_what_is_not_the_default() -> None:
    defaults = (table.CONTAINERD_SOCK.default, table.HOSTS_DIR.default, table.REGISTRY_ADDR.default)
    assert defaults == (STOCK_SOCK, DEFAULT_HOSTS_DIR, DEFAULT_REGISTRY_ADDR)
    facts = replace(HEALTHY, hosts=HostsFacts(True))
    assert diagnose(facts)[0].mend == ("peili configure",)
    other = asked(facts, sock="/c.sock", hosts_dir="/d", configured_addr="127.0.0.1:1")
    # containerd is told of another directory than /d, too.
    assert diagnose(other)[-1].mend == (
        "peili configure --hosts-dir /d --registry-addr 127.0.0.1:1 --containerd-sock /c.sock",
    )


@pytest.mark.parametrize(
    ("release", "sock", "file", "plugin"),
    [
        ((1, 7), "/run/k3s/containerd/containerd.sock", "config.toml.tmpl", "grpc.v1.cri"),
        ((2, 1), "/run/k3s/containerd/containerd.sock", "config-v3.toml.tmpl", "cri.v1.images"),
        (
            (2, 1),
            "/var/snap/microk8s/common/run/containerd.sock",
            "containerd-template.toml",
            "cri.v1.images",
        ),
    ],
)
def test_a_template_is_named_that_has_the_table(
    release: tuple[int, int], sock: str, file: str, plugin: str
) -> None:
    # The file that the process has is written anew from the template at each start.
    found = ConfigFacts("x", replace(CONFIG, config_path=""), file="/var/lib/made/config.toml")
    seen = replace(CONTAINERD, config=found, release=release)
    step = diagnose(asked(replace(HEALTHY, containerd=seen), sock=sock))[0].mend[0]
    assert f"/{file} set" in step and f'io.containerd.{plugin}"' in step


def test_a_dump_names_the_file_to_edit() -> None:
    source = "containerd --config /etc/own.toml config dump"
    facts = containerd(config=ConfigFacts(source, replace(CONFIG, config_path=""), file="/etc/own.toml"))
    assert "in /etc/own.toml set" in diagnose(facts)[0].mend[0]
    # --containerd-config-path does not tell the file.
    assert "in /etc/containerd/config.toml set" in diagnose(config(""))[0].mend[0]


def test_problems_come_before_notes_and_only_they_count() -> None:
    facts = replace(config(discards_layers=True), listen=replace(LISTEN, port=Port.CLOSED))
    found = diagnose(facts)
    assert [finding.code for finding in found] == [Code.REGISTRY_CLOSED, Code.LAYERS_DISCARDED]
    assert problem_count(found) == 1
    assert lines(facts, found)[-1] == "1 problem, 1 note (containerd 2.1.9)"
    assert lines(facts, found[1:])[-1] == "healthy, no problems, 1 note (containerd 2.1.9)"
    assert lines(facts, found)[1].startswith("    seen: ")


def test_a_socket_that_is_elsewhere_is_evidence() -> None:
    (finding,) = diagnose(containerd(answer=Answer.ABSENT, trouble="no such file", other_socks=("/a", "/b")))
    assert finding.evidence == "no such file; a socket is at /a, /b"


def test_a_clock_is_behind_where_the_cluster_is_ahead() -> None:
    (behind,), (ahead,) = (diagnose(daemon(clock_offset_s=offset_s)) for offset_s in (90.0, -90.0))
    assert "clock is behind that of its peers" in behind.what and behind.evidence == "90 s"
    assert "clock is ahead of that of its peers" in ahead.what and ahead.evidence == "90 s"


def test_why_there_are_no_peers_is_told_in_the_daemons_words_if_it_has_some() -> None:
    alone, troubled = (diagnose(daemon(members=0, trouble=words))[0] for words in ("", "no such name"))
    assert (alone.evidence, troubled.evidence) == ("no members by static:10.0.0.8:29021", "no such name")


@pytest.mark.parametrize(
    ("reaches", "codes", "evidence"),
    [
        ((Reach.REACHED, Reach.DROPPED), ["no-peers"], "10.0.0.1:29021 accept TCP: UDP is dropped"),
        ((Reach.REFUSED,), ["no-peers"], "10.0.0.1:29021 refuse TCP: no daemon listens"),
        ((Reach.DROPPED, Reach.DROPPED), ["no-peers", "peer-port-blocked"], "no members by static:"),
    ],
)
def test_what_tcp_tells_of_first_peers_where_nobody_is_known(
    reaches: tuple[Reach, ...], codes: list[str], evidence: str
) -> None:
    found = diagnose(replace(reaching(False, *reaches), daemon=replace(DAEMON, members=0)))
    assert [one.code.value for one in found] == codes and evidence in found[0].evidence


@pytest.mark.parametrize(
    ("facts", "evidence"),
    [
        (replace(HEALTHY, hosts=HostsFacts(False)), "there is no such directory"),
        (replace(HEALTHY, hosts=HostsFacts(True)), "no file has the marks of configure"),
        (
            listen(port=Port.TAKEN, owner="nginx (process 7)", said="status 404"),
            "nginx (process 7): status 404",
        ),
        (listen(port=Port.TAKEN, said="status 404"), "a process that is not seen: status 404"),
    ],
)
def test_the_evidence_is_what_was_seen(facts: Facts, evidence: str) -> None:
    assert diagnose(facts)[0].evidence == evidence


def test_a_long_list_is_cut() -> None:
    names = [HostsFile(f"r{number}.example", False) for number in range(9)]
    assert diagnose(hosts(OURS, *names))[0].evidence.endswith("r4.example, and 4 more")


def test_the_document_has_its_keys() -> None:
    told = document(HEALTHY, [Finding(Code.NO_PEERS, "w", "e", ("a", "b"))])
    assert told == {
        "schema": 1,
        "healthy": False,
        "version": "1.0",
        "containerd_version": "2.1.9",
        "findings": [
            {"code": "no-peers", "level": "problem", "what": "w", "evidence": "e", "mend": ["a", "b"]}
        ],
    }


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "doctor.md").read_text().partition("## A cluster")[0]


def test_the_page_lists_every_code_with_its_level_and_a_mend() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (problem|note) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    told = {code: level for code, level, _, mend in rows if mend.strip()}
    assert len(told) == len(rows)
    assert told == {code.value: "note" if code in NOTES else "problem" for code in Code}


def test_the_page_names_every_key_of_the_document() -> None:
    told = document(HEALTHY, [Finding(Code.NO_PEERS, "w", "e", ())])
    findings = told["findings"]
    assert isinstance(findings, list)
    for key in (*told, *findings[0]):
        assert f"`{key}`" in PAGE, key
