"""Who runs each command of the documentation, by its exact text: a test that runs it as it is written, a test of
something else that runs the same, or nobody, for a reason that is said.

Runs nothing: tests/integration/test_documented_commands.py does, test_commands_not_run.py looks at the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The first lines of blocks that hold no commands.
NOT_COMMANDS: Final = frozenset(
    {
        "          registry                 host 1 pulls app:v1 from the registry",
        '[plugins."io.containerd.grpc.v1.cri".registry]        # containerd 1.x',
        'key    = BLAKE2s-256(key = secret, person = "dht", message = cluster name in UTF-8)',
        "tag = BLAKE2b-128(key = key, person = first 16 bytes of BLAKE2s-256(cluster name in UTF-8), message =",
        'subkey = BLAKE2s-256(key = secret, person = "peerhttp", message = cluster name in UTF-8)',
        "Authorization: Peili v=1,k=<key id>,t=<Unix seconds>,n=<node id or ->,m=<MAC>",
        "MAC = BLAKE2s-128(key = subkey, message = lines joined by LF, no LF at the end)",
        "Peili-Challenge: v=1,k=<key id>,t=<Unix seconds>,n=<node id>,m=<MAC>",
        "GET /peer/v1/channel",
    }
)


@dataclass(frozen=True, slots=True)
class Here:
    """`test`: the one of test_documented_commands.py that runs it, letter by letter."""

    test: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """`test`: path::name of the one that runs the same, with other names or places."""

    test: str


@dataclass(frozen=True, slots=True)
class NotRun:
    """`objects`: kind/name of what it names, which the chart must make."""

    why: str
    objects: tuple[str, ...] = ()


CLUSTER: Final = "needs a cluster"
MINUTES: Final = "takes minutes, and fetches packages or measures"
SUITE: Final = "runs the tests, of which this is one"
MENTION: Final = "a name in a sentence"

# The groups of what is run here, in their order.
UP: Final = "peili up"
UP_CLOSED: Final = "peili up --closed"
DOWN: Final = "peili down"
SECRET: Final = "head -c 32 /dev/urandom | base64 > SECRET"
CONFIGURE: Final = "peili configure"
SERVE: Final = "peili serve --cluster-secret-file SECRET --bootstrap static:10.0.0.11:29021"
STATUS: Final = "curl 127.0.0.1:29022/api/v1/status"
PEILI_STATUS: Final = "peili status"
PEERS: Final = "peili peers"
IMAGES: Final = "peili images"
DOCTOR: Final = "peili doctor"
CLEANUP: Final = "peili cleanup"
REMOVE: Final = "peili cleanup --remove-data-dir /var/lib/peili"
STALE_TAGS: Final = "peili configure --stale-tags on"
DUMP: Final = "containerd config dump | grep -A1 'cri.*registry]$'"
WHOLE_DUMP: Final = "containerd config dump"
IMPORT: Final = "ctr -n k8s.io image import build/image.tar"
LINE: Final = "head -c 32 /dev/urandom | base64"
PATCH: Final = (
    "kubectl -n peili-system patch secret peili-cluster --patch "
    '"{\\"data\\":{\\"secret\\":\\"$(base64 -w0 LINES)\\"}}"'
)
CREATE_SECRET: Final = (
    "kubectl create secret generic peili-cluster --namespace peili-system "
    '--from-literal=secret="$(head -c 32 /dev/urandom | base64)"'
)
CLEAN_AGAIN: Final = (
    "helm template peili helm/peili --namespace peili-system --values YOUR-VALUES "
    "--show-only templates/cleanup.yaml | kubectl apply -f -"
)

_CLIENTS: Final = Elsewhere(
    "tests/integration/test_clients_real.py::test_what_one_host_pulled_the_next_one_has_from_it"
)
_DOCKER: Final = Elsewhere(
    "tests/integration/test_docker_real.py::test_what_daemon_json_says_of_registries_keeps_working"
)
_PODMAN: Final = Elsewhere(
    "tests/integration/test_podman_real.py::test_what_one_host_pulled_the_next_one_has_from_it"
)
SYSTEMD: Final = "tests/integration/test_up_systemd_real.py"
AIR_GAP: Final = "tests/integration/test_import_real.py"
TWO_HOSTS: Final = "test_a_second_host_pulls_what_the_first_imported_without_any_registry"

ON_HOSTS: Final = Here("test_two_hosts_are_set_up_looked_at_and_left_as_they_were")
NEW_USER: Final = Here("test_the_path_of_a_new_user")
ON_ONE: Final = Here("test_what_needs_no_host")
KUBECTL: Final = Here("test_what_kubectl_is_told")

TABLE: Final[dict[str, Here | Elsewhere | NotRun]] = {
    UP: NEW_USER,
    UP_CLOSED: NEW_USER,
    DOWN: NEW_USER,
    "peili up --join …": Elsewhere(
        "tests/integration/test_up_real.py::"
        "test_two_hosts_meet_by_themselves_a_third_joins_by_the_line_and_nothing_stays"
    ),
    "peili up --join -": Elsewhere(
        "tests/integration/test_up_real.py::test_a_closed_cluster_is_joined_by_the_line_and_no_other_way"
    ),
    "peili up --restart": Elsewhere(f"{SYSTEMD}::test_a_service_is_installed_and_everything_is_undone"),
    "peili up --systemd": Elsewhere(f"{SYSTEMD}::test_a_service_is_installed_and_everything_is_undone"),
    SECRET: ON_HOSTS,
    CONFIGURE: ON_HOSTS,
    SERVE: ON_HOSTS,
    STATUS: ON_HOSTS,
    PEILI_STATUS: ON_HOSTS,
    PEERS: ON_HOSTS,
    IMAGES: ON_HOSTS,
    DOCTOR: ON_HOSTS,
    CLEANUP: ON_HOSTS,
    REMOVE: ON_HOSTS,
    STALE_TAGS: ON_HOSTS,
    DUMP: ON_HOSTS,
    WHOLE_DUMP: ON_HOSTS,
    IMPORT: Here("test_the_image_is_imported_under_the_name_that_is_said"),
    LINE: ON_ONE,
    "peili version": ON_ONE,
    "peili seed": ON_ONE,
    "peili scheduler": ON_ONE,
    # kubectl itself is a recorder there: what the shell makes of the line is looked at.
    PATCH: KUBECTL,
    CREATE_SECRET: KUBECTL,
    CLEAN_AGAIN: KUBECTL,
    "peili serve": NotRun(MENTION),
    "peili import": NotRun(MENTION),
    "peili import --name REF PATH": Elsewhere(
        "tests/unit/archive/test_directory_round_trip.py::test_an_import_is_told_in_lines_and_as_a_document"
    ),
    "peili import /media/usb/images.tar": Elsewhere(f"{AIR_GAP}::{TWO_HOSTS}"),
    "peili configure --tags peers": Elsewhere(f"{AIR_GAP}::{TWO_HOSTS}"),
    "peili serve --tags peers --origin off --cluster-secret-file SECRET "
    "--bootstrap static:10.0.0.11:29021": Elsewhere(f"{AIR_GAP}::{TWO_HOSTS}"),
    "peili serve --store directory": NotRun(MENTION),
    "peili export": NotRun(MENTION),
    "peili export registry.example/team/app:v1 registry.example/team/db:v2 -o /media/usb/images.tar": Elsewhere(
        f"{AIR_GAP}::test_an_export_has_the_same_blobs_and_others_read_it"
    ),
    "skopeo copy docker://registry.example/team/app:v1 "
    "oci-archive:/media/usb/app.tar:registry.example/team/app:v1": Elsewhere(
        f"{AIR_GAP}::test_what_skopeo_wrote_is_imported"
    ),
    "docker save": NotRun(MENTION),
    "ctr images import": NotRun(MENTION),
    "kubectl -n peili-system exec -i POD -- peili import - < images.tar": NotRun(CLUSTER),
    "peili configure --containerd-config-path LIST": NotRun("LIST is what the reader's containerd has"),
    "peili serve --registry-addr 127.0.0.1:29020": Elsewhere(
        "tests/integration/test_doctor_real.py::test_a_registry_port_that_others_reach"
    ),
    "peili doctor --cluster": Elsewhere(
        "tests/conformance/test_cluster_api.py::test_what_is_wrong_is_found_through_the_api"
    ),
    "peili cleanup --stay-addr": NotRun(MENTION),
    "ctr image import": NotRun(MENTION),
    "ctr run": NotRun(MENTION),
    "peili serve --containerd-namespace NAME": NotRun(MENTION),
    "peili configure --hosts-dir DIR": NotRun("DIR is the reader's"),
    # docs/clients
    "peili configure --hosts-dir /etc/docker/certs.d": _DOCKER,
    "peili cleanup --hosts-dir /etc/docker/certs.d": _DOCKER,
    "peili serve --hosts-dir /etc/docker/certs.d --containerd-namespace moby "
    "--cluster-secret-file SECRET --bootstrap static:10.0.0.11:29021": _CLIENTS,
    "docker info": Elsewhere("tests/integration/test_docker_real.py::test_a_containerd_of_dockers_own"),
    "docker build": NotRun(MENTION),
    "peili serve --store directory --origin relay "
    "--cluster-secret-file SECRET --bootstrap static:10.0.0.11:29021": _PODMAN,
    "peili serve --containerd-namespace default --containerd-namespace k8s.io "
    "--cluster-secret-file SECRET --bootstrap static:10.0.0.11:29021": _CLIENTS,
    "nerdctl pull ghcr.io/team/app:v1": _CLIENTS,
    "nerdctl --namespace k8s.io pull ghcr.io/team/app:v1": _CLIENTS,
    "nerdctl --hosts-dir DIR pull IMAGE": NotRun("DIR and IMAGE are the reader's"),
    "nerdctl pull --unpack=false": NotRun(MENTION),
    "ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d ghcr.io/team/app:v1": _CLIENTS,
    "make client-tools": NotRun(MINUTES),
    "make demo": Elsewhere(
        "tests/seams/test_demo_command.py::test_the_origin_sends_one_copy_and_peers_the_rest"
    ),
    "make docs": Elsewhere("tests/chart/test_docs.py::test_the_generator_prints_or_writes"),
    "make image": Elsewhere(
        "tests/integration/test_image_real.py::test_hosts_pull_from_each_other_through_daemons_in_containers"
    ),
    "make test": NotRun(SUITE),
    "make unit": NotRun(SUITE),
    "make test-all": NotRun(SUITE),
    "TEST_EXPECT_SKIPS=no-root,no-netns make test": NotRun(SUITE),
    "make check": NotRun("a minute, beside the tests"),
    "make locks": NotRun("asks the package index, and writes the lock files"),
    "make protos": NotRun("writes generated files; make check compares them"),
    "make kube-apiserver": NotRun(MINUTES),
    'make image ARGS="--platform linux/amd64 --platform linux/arm64"': NotRun(MINUTES),
    "make bench-serve": NotRun(MINUTES),
    "make bench-splice": NotRun(MINUTES),
    "make bench-dht": NotRun(MINUTES),
    "make bench-sim": NotRun(MINUTES),
    "make bench-herd": NotRun(MINUTES),
    'make bench-herd ARGS="--hosts 5"': NotRun(MINUTES),
    'make bench-herd ARGS="--memory-max 128MiB …"': NotRun(MINUTES),
    "requirements/venv.sh run": NotRun("makes the .venv that runs this"),
    "requirements/venv.sh cluster": NotRun("makes the .venv that runs this"),
    ".venv/bin/python -m tests.support.chart_golden": NotRun("writes files that tests/chart compares"),
    "skopeo copy oci:build/image docker://…": NotRun("the registry is the reader's"),
    "helm install peili helm/peili --namespace peili-system --create-namespace "
    "--set image.repository=YOUR-REGISTRY/peili": NotRun(CLUSTER),
    "helm install peili helm/peili --namespace peili-system --create-namespace "
    "--set image.repository=registry.example/peili": NotRun(CLUSTER),
    "helm install peili helm/peili --namespace peili-system --set image.repository=YOUR-REGISTRY/peili": (
        NotRun(CLUSTER)
    ),
    "helm install peili helm/peili": NotRun(CLUSTER),
    "helm test peili --namespace peili-system --logs": Elsewhere(
        "tests/chart/test_kube.py::test_a_test_pod_is_made_and_taken_away"
    ),
    "helm uninstall peili --namespace peili-system": Elsewhere(
        "tests/chart/test_kube.py::test_an_uninstall_waits_for_all_hosts"
    ),
    "helm uninstall": Elsewhere("tests/chart/test_kube.py::test_an_uninstall_waits_for_all_hosts"),
    "helm rollback": Elsewhere("tests/chart/test_kube.py::test_a_secret_is_made_once_and_stays"),
    "helm upgrade": Elsewhere("tests/chart/test_kube.py::test_a_secret_is_made_once_and_stays"),
    "helm template": Elsewhere("tests/chart/test_render.py::test_both_majors_render_alike"),
    "systemctl edit peili": NotRun("opens the reader's editor"),
    "systemctl status peili": Elsewhere(
        "tests/integration/test_systemd_real.py::test_the_daemon_lives_as_a_service"
    ),
    "helm uninstall spegel": NotRun("needs a cluster with Spegel"),
    "kubectl create namespace peili-system": NotRun(CLUSTER),
    "kubectl label namespace peili-system pod-security.kubernetes.io/enforce=privileged": NotRun(CLUSTER),
    "kubectl -n peili-system port-forward POD 29022": NotRun(CLUSTER),
    "kubectl -n peili-system exec POD -- peili status": NotRun(CLUSTER),
    "kubectl -n peili-system rollout restart daemonset/peili": NotRun(CLUSTER, ("DaemonSet/peili",)),
    "kubectl -n peili-system get pods -l app.kubernetes.io/component=cleanup -o wide": NotRun(CLUSTER),
    "kubectl -n peili-system delete daemonset,service,pod "
    "-l 'app.kubernetes.io/component in (cleanup,cleanup-wait)'": NotRun(CLUSTER),
    "kubectl -n peili-system logs peili-cleanup-wait": NotRun(CLUSTER, ("Pod/peili-cleanup-wait",)),
}


def rows(program: str, *kinds: type[Here | Elsewhere | NotRun]) -> list[str]:
    found = [
        text
        for text, row in TABLE.items()
        if program in text.split()[:2] and isinstance(row, kinds or (Here, Elsewhere, NotRun))
    ]
    assert found
    return found
