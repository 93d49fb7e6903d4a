"""What is found on a host, which is chosen, and what is to be changed there: by tables of facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from containerd.effective_config import effective
from mirror.host.distribution import (
    DOCKER_SOCK,
    K3S_SOCK,
    MICROK8S_SOCK,
    STOCK_SOCK,
    Kind,
    distribution_of,
)
from mirror.host.errors import HostError
from mirror.host.facts import Answer, ConfigFacts, DockerFacts, HostFacts, SocketFacts
from mirror.host.found import choose, installations
from mirror.host.plan import HostPlan, HostsDir, ServeSettings, plan

URL = "http://127.0.0.1:29020"
CERTS = "/etc/containerd/certs.d"
CONFIG = "/etc/containerd/config.toml"
DOCKER_CERTS = "/etc/docker/certs.d"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
READS = f'version = 2\n[{CRI}.registry]\nconfig_path = "{CERTS}"\n'
DOCKER = DockerFacts("28.5.2", "overlayfs", True, STOCK_SOCK)
CLASSIC = replace(DOCKER, store="overlay2", has_containerd_store=False)
RESTART = "systemctl restart containerd"


def socket(
    sock: str = STOCK_SOCK,
    text: str = READS,
    *imported: str,
    version: str = "1.7.24",
    namespaces: tuple[str, ...] = ("k8s.io",),
    file: str = CONFIG,
    is_newer: bool = False,
) -> SocketFacts:
    """With what containerd makes of these texts in effect."""
    major, minor = (int(part) for part in version.lstrip("v").split(".")[:2])
    config = ConfigFacts("dump", effective([text, *imported], (major, minor)), "", is_newer, file)
    files = (file, *(f"/etc/containerd/conf.d/{index}.toml" for index, _ in enumerate(imported)))
    return SocketFacts(sock, Answer.ANSWERS, "", version, (major, minor), namespaces, config, files)


def host(*sockets: SocketFacts, files: dict[str, str] | None = None, **more: object) -> HostFacts:
    facts = HostFacts("debian", "Debian", sockets, files=files or {}, units=frozenset({"containerd.service"}))
    return replace(facts, **more)  # type: ignore[arg-type]


def planned(facts: HostFacts, sock: str | None = None, hosts_dir: str | None = None) -> HostPlan:
    return plan(facts, choose(facts, sock).chosen, URL, hosts_dir=hosts_dir)


def stock(text: str, *imported: str, **more: object) -> HostFacts:
    """The system's containerd with these files."""
    one = socket(STOCK_SOCK, text, *imported, **more)  # type: ignore[arg-type]
    return host(one, files=dict(zip(one.config_files, (text, *imported), strict=True)))


# --- What is found, and chosen


@pytest.mark.parametrize(
    ("sock", "has_rke2", "kind"),
    [
        (STOCK_SOCK, True, Kind.STOCK),
        (K3S_SOCK, False, Kind.K3S),
        (K3S_SOCK, True, Kind.RKE2),
        (MICROK8S_SOCK, False, Kind.MICROK8S),
        (DOCKER_SOCK, False, Kind.DOCKER),
        ("/srv/c.sock", False, Kind.STOCK),
    ],
)
def test_the_socket_tells_the_kind(sock: str, has_rke2: bool, kind: Kind) -> None:
    assert distribution_of(sock, has_rke2=has_rke2).kind is kind


def test_kubernetes_own_containerd_goes_before_the_systems_and_all_are_told() -> None:
    facts = host(socket(K3S_SOCK), socket(), socket(DOCKER_SOCK), docker=DOCKER)
    choice = choose(facts)
    assert choice.chosen.distribution.kind is Kind.K3S
    assert [one.socket.sock for one in choice.others] == [STOCK_SOCK, DOCKER_SOCK]
    assert all(
        f"--containerd-sock {one.socket.sock}" in note
        for one, note in zip(choice.others, choice.notes, strict=True)
    )
    assert [one.docker for one in installations(facts)] == [None, DOCKER, None]


@pytest.mark.parametrize("sock", [STOCK_SOCK, "/var/run/containerd/containerd.sock"])
def test_another_can_be_chosen(sock: str) -> None:
    choice = choose(host(socket(K3S_SOCK), socket()), sock)
    assert choice.chosen.socket.sock == STOCK_SOCK and len(choice.others) == 1


def test_one_that_does_not_answer_is_told() -> None:
    silent = SocketFacts(K3S_SOCK, Answer.SILENT, "no answer in 5 s")
    choice = choose(host(silent, socket()))
    assert choice.chosen.socket.sock == STOCK_SOCK
    assert choice.notes == (f"{K3S_SOCK} is left alone, since it does not answer: no answer in 5 s",)


@pytest.mark.parametrize(
    ("facts", "sock", "said"),
    [
        (host(), None, (STOCK_SOCK, K3S_SOCK, "--containerd-sock", "Podman")),
        (host(SocketFacts(K3S_SOCK, Answer.SILENT, "dead")), None, ("dead", "systemctl start k3s")),
        (host(SocketFacts(STOCK_SOCK, Answer.FORBIDDEN, "no")), None, ("as root",)),
        (
            host(SocketFacts("/x", Answer.ABSENT, "not there"), socket()),
            "/x",
            ("/x", "not there", STOCK_SOCK),
        ),
        (host(socket(), os_id="talos"), None, ("RegistryMirrorConfig", URL, "docs/plain-host.md")),
        (
            host(socket(), os_id="bottlerocket"),
            None,
            ("container-registry.mirrors", URL, "docs/plain-host.md"),
        ),
    ],
)
def test_nothing_to_choose_says_what_was_looked_for(
    facts: HostFacts, sock: str | None, said: tuple[str, ...]
) -> None:
    with pytest.raises(HostError) as refused:
        choose(facts, sock)
    assert all(word in str(refused.value) for word in said), str(refused.value)


# --- The system's containerd


def test_a_host_in_order_needs_nothing() -> None:
    assert planned(stock(READS)) == HostPlan(
        ServeSettings(STOCK_SOCK, ("k8s.io",), CERTS, CERTS), (HostsDir(CERTS, CERTS),)
    )


@pytest.mark.parametrize(
    ("release", "text"),
    [
        ("1.7.24", ""),
        ("1.6.20", f"version = 2\n[{CRI}.registry]\nconfig_path = ''\n"),
        ("1.7.24", "oom_score = 0\n"),
        ("2.1.9", ""),
        ("2.1.9", f"version = 2\n[{CRI}]\nsandbox = 'x'\n"),
        ("2.0.5", "version = 3\n"),
    ],
)
def test_where_config_path_is_not_set_it_is_set_once(release: str, text: str) -> None:
    made = planned(stock(text, version=release))
    (change,) = made.changes
    assert change.path == CONFIG and change.content.decode() != text and made.restart == RESTART
    assert made.hosts_dirs == (HostsDir(CERTS, CERTS),)
    after = planned(stock(change.content.decode(), version=release))
    assert after == replace(made, changes=(), restart=None)


def test_no_file_is_an_empty_one() -> None:
    made = planned(replace(stock(""), files={}))
    assert [change.path for change in made.changes] == [CONFIG]


def test_another_directory_of_the_users_is_taken_as_it_is() -> None:
    made = planned(stock(READS.replace(CERTS, "/srv/hosts/")))
    assert (made.hosts_dirs, made.changes) == ((HostsDir("/srv/hosts", "/srv/hosts/"),), ())
    told = planned(stock(READS.replace(CERTS, "/srv/hosts/")), hosts_dir=CERTS)
    assert CERTS in told.changes[0].content.decode() and told.hosts_dirs == (HostsDir(CERTS, CERTS),)


@pytest.mark.parametrize("text", [READS.replace(CERTS, f"{DOCKER_CERTS}:{CERTS}"), ""])
def test_a_list_is_left_to_configure(text: str) -> None:
    made = planned(stock(text, version="2.2.0"))
    assert made.changes == () and made.serve.hosts_dir == CERTS
    assert ":" in made.serve.containerd_config_path == made.hosts_dirs[0].config_path


def test_an_import_that_takes_the_table_away_is_changed_itself() -> None:
    taking = f"[{CRI}]\nmax_concurrent_downloads = 5\n"
    assert [change.path for change in planned(stock("version = 2\n", taking)).changes] == [
        "/etc/containerd/conf.d/0.toml"
    ]
    # containerd 2 joins the two.
    assert [change.path for change in planned(stock("version = 2\n", taking, version="2.1.9")).changes] == [
        CONFIG
    ]
    clearing = f"[{CRI}.registry]\nconfig_path = ''\n"
    assert [change.path for change in planned(stock("version = 2\n", clearing, version="2.1.9")).changes] == [
        "/etc/containerd/conf.d/0.toml"
    ]


def test_a_change_that_containerd_does_not_know_yet_needs_a_restart() -> None:
    made = planned(stock(READS, is_newer=True))
    assert made.changes == () and made.restart == RESTART and len(made.notes) == 1


def test_without_a_unit_that_is_known_the_restart_is_the_operators() -> None:
    elsewhere = host(socket("/run/k0s/containerd.sock", "", file="/etc/k0s/containerd.toml"))
    for facts in (replace(stock(""), units=frozenset()), elsewhere):
        made = planned(facts)
        assert made.changes and made.restart is None and "restart it" in made.notes[0]


def test_cri_switched_off_and_no_docker_is_nerdctl() -> None:
    made = planned(stock('disabled_plugins = ["cri"]\n', namespaces=("default",)))
    assert made.changes == () and made.restart is None and "nerdctl" in made.notes[0]
    assert made.serve == ServeSettings(STOCK_SOCK, ("k8s.io", "default"), CERTS, CERTS)


MIRRORS = f"[{CRI}.registry.mirrors.'x.io']\nendpoint = ['https://y']\n"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (stock(f"version = 2\n{MIRRORS}"), ("x.io", "hosts.toml", CONFIG)),
        (stock(READS + MIRRORS), ("x.io", "hosts.toml")),
        (host(replace(socket(), config=None)), ("as root",)),
        (host(replace(socket(), config=ConfigFacts("f", None, "not TOML"))), ("not TOML",)),
        (host(replace(socket(text=""), config_files=())), ("container", CONFIG)),
        (replace(stock(""), files={}, unreadable={CONFIG: "permission denied"}), ("permission denied",)),
        (stock("", version="1.5.9"), ("1.5.9", "upgrade")),
        (replace(stock(""), read_only=("/etc/containerd",)), ("/etc/containerd", "docs/plain-host.md")),
        (replace(stock(READS), read_only=(CERTS,)), (CERTS,)),
        (stock(f"version = 2\n[{CRI}]\nregistry = {{}}\n"), ("config_path =", CONFIG)),
    ],
)
def test_what_is_left_to_the_operator_is_said(facts: HostFacts, said: tuple[str, ...]) -> None:
    with pytest.raises(HostError) as refused:
        planned(facts)
    assert all(word in str(refused.value) for word in said), str(refused.value)


# --- Docker

# As its packages bring it.
FOR_DOCKER = 'disabled_plugins = ["cri"]\n'


def test_docker_with_the_systems_containerd() -> None:
    made = planned(replace(stock(FOR_DOCKER, namespaces=("moby",)), docker=DOCKER))
    assert made == HostPlan(
        ServeSettings(STOCK_SOCK, ("moby",), DOCKER_CERTS, DOCKER_CERTS),
        (HostsDir(DOCKER_CERTS, DOCKER_CERTS),),
    )
    # Also where CRI is on, and nobody uses it.
    assert planned(replace(stock("", namespaces=("moby",)), docker=DOCKER)) == made


def test_docker_and_kubernetes_in_one_containerd() -> None:
    made = planned(replace(stock("", namespaces=("moby", "k8s.io")), docker=DOCKER))
    assert made.serve.namespaces == ("k8s.io", "moby") and made.serve.hosts_dir == CERTS
    assert [one.path for one in made.hosts_dirs] == [CERTS, DOCKER_CERTS]
    assert [change.path for change in made.changes] == [CONFIG]


def test_docker_with_a_containerd_of_its_own() -> None:
    own = replace(DOCKER, containerd_sock=DOCKER_SOCK)
    made = planned(host(socket(DOCKER_SOCK, FOR_DOCKER, namespaces=("moby",)), docker=own))
    assert made == HostPlan(
        ServeSettings(DOCKER_SOCK, ("moby",), DOCKER_CERTS, DOCKER_CERTS),
        (HostsDir(DOCKER_CERTS, DOCKER_CERTS),),
    )


def test_a_hosts_dir_that_docker_does_not_read_is_told() -> None:
    made = planned(replace(stock(FOR_DOCKER, namespaces=("moby",)), docker=DOCKER), hosts_dir="/mine")
    assert made.serve.hosts_dir == DOCKER_CERTS and "--hosts-dir /mine has no effect" in made.notes[0]


def test_classic_docker_beside_kubernetes_is_a_note() -> None:
    made = planned(replace(stock(READS, namespaces=("moby", "k8s.io")), docker=CLASSIC))
    assert made.serve.namespaces == ("k8s.io",) and [one.path for one in made.hosts_dirs] == [CERTS]
    assert "containerd-snapshotter" in made.notes[0]


@pytest.mark.parametrize(
    ("docker", "said"),
    [
        (CLASSIC, ("overlay2", "containerd-snapshotter", "daemon.json")),
        (replace(DOCKER, version="27.5.1"), ("27.5.1", "upgrade")),
        (replace(CLASSIC, version="20.10.24"), ("upgrade", "containerd-snapshotter")),
    ],
)
@pytest.mark.parametrize("sock", [STOCK_SOCK, DOCKER_SOCK])
def test_docker_that_has_nothing_to_share_is_explained(
    docker: DockerFacts, said: tuple[str, ...], sock: str
) -> None:
    facts = host(socket(sock, FOR_DOCKER, namespaces=("moby",)), docker=replace(docker, containerd_sock=sock))
    with pytest.raises(HostError) as refused:
        planned(facts)
    assert all(word in str(refused.value) for word in said), str(refused.value)


def test_dockers_containerd_without_docker() -> None:
    with pytest.raises(HostError, match="timed out"):
        planned(host(socket(DOCKER_SOCK, FOR_DOCKER), docker_trouble="timed out"))


# --- MicroK8s

MICROK8S_CERTS = "/var/snap/microk8s/current/args/certs.d"


def microk8s(config_path: str, more: str = "") -> HostFacts:
    return host(socket(MICROK8S_SOCK, READS.replace(CERTS, config_path) + more))


def test_microk8s_has_all_that_is_needed() -> None:
    """Its config_path has the number of the snap's revision, which ours must outlive."""
    for revision in ("current", "7394"):
        made = planned(microk8s(f"/var/snap/microk8s/{revision}/args/certs.d"))
        assert made == HostPlan(
            ServeSettings(MICROK8S_SOCK, ("k8s.io",), MICROK8S_CERTS, MICROK8S_CERTS),
            (HostsDir(MICROK8S_CERTS, MICROK8S_CERTS),),
        )
    assert planned(microk8s("/srv/hosts")).serve.hosts_dir == "/srv/hosts"


@pytest.mark.parametrize("facts", [microk8s(""), microk8s("", MIRRORS)])
def test_an_old_microk8s_is_told_what_its_template_lacks(facts: HostFacts) -> None:
    with pytest.raises(HostError, match=r"containerd-template\.toml"):
        planned(facts)


# --- K3s and RKE2

K3S_CERTS = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
K3S_UNIT = "/etc/systemd/system/k3s.service"


def k3s(
    registries: str | None = None, *, version: str = "v2.1.4-k3s1", certs: str = K3S_CERTS, **files: str
) -> HostFacts:
    texts = {} if registries is None else {REGISTRIES: registries}
    one = socket(K3S_SOCK, READS.replace(CERTS, certs), version=version)
    return host(one, files=texts | files)


def test_k3s_is_told_by_registries_yaml_and_writes_hosts_toml_itself() -> None:
    made = planned(k3s())
    assert made.serve == ServeSettings(K3S_SOCK, ("k8s.io",), K3S_CERTS, K3S_CERTS)
    assert made.hosts_dirs == () and made.restart == "systemctl restart k3s"
    (change,) = made.changes
    assert (change.path, change.mode) == (REGISTRIES, 0o600)
    assert yaml.safe_load(change.content) == {"mirrors": {"*": {"endpoint": [URL]}}}


def test_k3s_is_restarted_until_it_has_made_its_files() -> None:
    text = planned(k3s()).changes[0].content.decode()
    pending = planned(k3s(text))
    assert pending.changes == () and pending.restart == "systemctl restart k3s" and pending.notes
    generated = {f"{K3S_CERTS}/_default/hosts.toml": f'[host."{URL}/v2"]\n'}
    assert planned(k3s(text, **generated)) == replace(pending, restart=None, notes=())


@pytest.mark.parametrize(
    ("rke2", "enabled", "restart"),
    [
        (False, (), "k3s"),
        (False, ("k3s-agent.service",), "k3s-agent"),
        (True, ("rke2-server.service",), "rke2-server"),
        (True, ("rke2-agent.service",), "rke2-agent"),
        (True, (), "rke2-server"),
    ],
)
def test_the_unit_that_starts_with_the_host_is_restarted(
    rke2: bool, enabled: tuple[str, ...], restart: str
) -> None:
    made = planned(replace(k3s(), has_rke2=rke2, enabled_units=frozenset(enabled)))
    assert made.restart == f"systemctl restart {restart}"
    assert made.changes[0].path == f"/etc/rancher/{'rke2' if rke2 else 'k3s'}/registries.yaml"


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/rancher/k3s/config.yaml": "disable-default-registry-endpoint: true\n"},
        {"/etc/rancher/k3s/config.yaml.d/1.yaml": '"disable-default-registry-endpoint": "true"\n'},
        {
            K3S_UNIT: "ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--disable-default-registry-endpoint' \\\n"
        },
    ],
)
def test_k3s_without_a_way_to_the_registry_itself_gets_no_mirror_of_all(files: dict[str, str]) -> None:
    made = planned(k3s(**files))
    assert made.changes == () and made.restart is None and '"*"' in made.notes[0]
    text = "mirrors:\n  a.io:\n    endpoint: [https://b]\n"
    assert yaml.safe_load(planned(k3s(text, **files)).changes[0].content) == {
        "mirrors": {"a.io": {"endpoint": [URL, "https://b"]}}
    }


@pytest.mark.parametrize(
    "line",
    [
        "# disable-default-registry-endpoint: true",
        "disable-default-registry-endpoint: false",
        "x: private-registry",
    ],
)
def test_a_flag_that_is_not_set_is_none(line: str) -> None:
    assert planned(k3s(**{"/etc/rancher/k3s/config.yaml": line})) == planned(k3s())


def test_the_embedded_mirror_beside_ours_is_a_note() -> None:
    made = planned(k3s(**{"/etc/rancher/k3s/config.yaml": "embedded-registry: true"}))
    assert made.changes and "embedded-registry" in made.notes[0]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (k3s(certs=""), ("template", "before 2024")),
        (k3s(version="v1.7.11-k3s2"), ("1.7.11", "upgrade")),
        (k3s(version="v2.0.2-k3s2"), ("2.0.2", "upgrade")),
        (k3s("a: ["), ("not YAML",)),
        (
            k3s(**{K3S_UNIT: "ExecStart=k3s server '--private-registry' '/srv/r.yaml'\n"}),
            ("/srv/r.yaml", URL),
        ),
        (k3s(**{"/etc/rancher/k3s/config.yaml": "private-registry: /srv/r.yaml"}), ("/srv/r.yaml",)),
        (replace(k3s(), unreadable={REGISTRIES: "permission denied"}), ("permission denied",)),
        (replace(k3s(), read_only=("/etc/rancher/k3s",)), ("docs/plain-host.md",)),
    ],
)
def test_what_k3s_leaves_to_the_operator_is_said(facts: HostFacts, said: tuple[str, ...]) -> None:
    with pytest.raises(HostError) as refused:
        planned(facts)
    assert all(word in str(refused.value) for word in said), str(refused.value)


@pytest.mark.parametrize("version", ["v1.7.15-k3s1", "v2.0.4-k3s2", "v2.1.4-k3s1", "unknown.1"])
def test_releases_that_go_on_to_the_registry_itself(version: str) -> None:
    facts = k3s() if version == "unknown.1" else k3s(version=version)
    one = replace(facts.sockets[0], version=version)
    assert planned(replace(facts, sockets=(one,))).changes
