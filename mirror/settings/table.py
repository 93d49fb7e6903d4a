"""Which settings there are. The one source of flags, environment variables, defaults and docs/settings.md.

Rules
1. A setting stands here only when a command acts on it.
2. A default is text, read by the same parser as what a user writes. What the machine decides
   (`Setting.unset`) is described in words.
3. The variable of a setting is PEILI_ and its name in upper case; no name may look like what Kubernetes
   injects for a Service (`…_SERVICE_HOST`, `…_PORT`). A second one (`also`) is what a pod's manifest sets from a fact
   of its host.
"""

from __future__ import annotations

from mirror.log import LogFormat, LogLevel
from mirror.settings import values
from mirror.settings.model import OriginUse, StaleTags, StoreKind, Switch, Tags, Verify
from mirror.settings.setting import Command, Setting

# Below this not even one image of a few layers fits.
CACHE_MIN_BYTES = 2**20
# A shorter wait cannot see that a name's addresses stay the same; a longer one belongs into a person's hands.
WAIT_MIN_S = 60
WAIT_MAX_S = 24 * 3600


# up runs configure and serve, and hands on what it was given.
_SERVE = frozenset({Command.SERVE, Command.UP})
_HOSTS = frozenset({Command.CONFIGURE, Command.CLEANUP})
_CLEANUP = frozenset({Command.CLEANUP})
_CLEANUP_WAIT = frozenset({Command.CLEANUP_WAIT})
_DOCTOR = frozenset({Command.DOCTOR})
_BOTH = _SERVE | {Command.CONFIGURE}
_ARCHIVES = frozenset({Command.IMPORT, Command.EXPORT})
_ASKING = frozenset({Command.STATUS, Command.PEERS, Command.IMAGES})

STORE = Setting(
    name="store",
    shape="auto|containerd|directory",
    parse=values.choice(StoreKind),
    help="Where the content of this host is: in containerd, or in a directory of our own. "
    "auto is directory when --store-dir is given, else containerd.",
    default="auto",
    example="directory",
    commands=_SERVE | _ARCHIVES,
)
STORE_DIR = Setting(
    name="store-dir",
    shape="PATH",
    parse=values.path,
    help="Root of the directory store, an OCI image layout.",
    unset="store in the data directory",
    example="/srv/peili",
    commands=_SERVE | _ARCHIVES,
)
CACHE_SIZE = Setting(
    name="cache-size",
    shape="SIZE",
    parse=values.size_bytes(CACHE_MIN_BYTES, may_be_zero=True),
    help="Most bytes that are kept on disk: by the directory store; else of layers that containerd does not keep "
    "(discard_unpacked_layers); and in each spool, of what is on its way. What was used longest ago goes first. Cache "
    "and spools never fill a disk over 84 %. 0: what containerd does not keep is not kept here either.",
    # The layers of all images of a usual host, compressed. On a small disk its own fill level is the limit.
    default="10GiB",
    example="512MiB",
    commands=_SERVE | {Command.IMPORT},
)
CONTAINERD_SOCK = Setting(
    name="containerd-sock",
    shape="PATH",
    parse=values.socket_path,
    help="containerd's socket. configure only asks it for containerd's version.",
    default="/run/containerd/containerd.sock",
    example="/run/k3s/containerd/containerd.sock",
    commands=_BOTH | _DOCTOR | _ARCHIVES,
)
CONTAINERD_NAMESPACE = Setting(
    name="containerd-namespace",
    shape="NAME",
    parse=values.containerd_namespace,
    help="A containerd namespace whose content is shared. Docker's is moby. import writes into the first, export "
    "looks in each.",
    default="k8s.io",
    example="moby",
    commands=_SERVE | _DOCTOR | _ARCHIVES,
    is_repeatable=True,
)
CONTAINERD_CONTENT_PATH = Setting(
    name="containerd-content-path",
    shape="PATH",
    parse=values.path,
    help="Root of containerd's content store (the directory that has blobs in it), where this process sees "
    "it at another path than containerd does.",
    unset="what containerd says",
    example="/host/var/lib/containerd/io.containerd.content.v1.content",
    commands=_SERVE | _DOCTOR,
)
DATA_DIR = Setting(
    name="data-dir",
    shape="PATH",
    parse=values.path,
    help="What the daemon keeps across restarts, such as its node id. Made (0700) where there is none.",
    unset="/var/lib/peili, or a temporary one for a user who cannot write there",
    example="/srv/peili-data",
    commands=_SERVE | _ARCHIVES | {Command.DOWN},
)
REGISTRY_ADDR = Setting(
    name="registry-addr",
    shape="ADDRESS:PORT",
    parse=values.listen_address,
    help="Where containerd asks this daemon. Whoever can reach it can read cached images by digest: keep it "
    "on loopback.",
    default="127.0.0.1:29020",
    example="127.0.0.1:5000",
    commands=_BOTH | _DOCTOR,
)
PEER_ADDR = Setting(
    name="peer-addr",
    shape="ADDRESS:PORT",
    parse=values.listen_address,
    help="Where other daemons ask this one: HTTP over TCP, and UDP on the same port to find each other. The one port "
    "to open between hosts.",
    default=":29021",
    unset=":29021 (every address, IPv6 and IPv4)",
    example="10.0.0.7:29021",
    commands=_SERVE | _DOCTOR,
)
ADMIN_ADDR = Setting(
    name="admin-addr",
    shape="ADDRESS:PORT",
    parse=values.listen_address,
    help="Health and local API: where the daemon is asked by status, peers and images.",
    default="127.0.0.1:29022",
    example="[::1]:29022",
    commands=_SERVE | _ASKING | _DOCTOR,
)
CONFIGURED_ADDR = Setting(
    name="configured-addr",
    shape="ADDRESS:PORT",
    parse=values.listen_address,
    help="Where hosts.toml sends containerd, if that is not --registry-addr but a port that is forwarded to it: what "
    "configure had as its --registry-addr.",
    unset="--registry-addr",
    example="127.0.0.1:30020",
    commands=_DOCTOR,
)
METRICS_ADDR = Setting(
    name="metrics-addr",
    shape="ADDRESS:PORT|off",
    parse=values.listen_address_or_off,
    help="Where Prometheus asks.",
    default="off",
    example=":29023",
    commands=_SERVE,
)
ADVERTISE_ADDR = Setting(
    name="advertise-addr",
    shape="ADDRESS",
    parse=values.advertise_address,
    help="Where other hosts reach this one, if it is not where its datagrams come from: behind a port forward, or in a "
    "pod with a host port. The port is that of --peer-addr. Believed only where the cluster has a secret.",
    unset="what PEILI_HOST_IP says, else where its datagrams come from",
    example="10.0.0.7",
    commands=_SERVE,
    also="PEILI_HOST_IP",
)
BOOTSTRAP = Setting(
    name="bootstrap",
    shape="static:HOST:PORT|dns:NAME[:PORT]|lan",
    parse=values.bootstrap,
    help="How to find a first peer; it knows all others. static: one by the address of its --peer-addr, tried again "
    "and again. dns: a name with the addresses of many, such as a headless Service; without a port, that of our own "
    "--peer-addr. lan: whoever is heard on the local network. The same list may be given to every host.",
    unset="none (a cluster of one host, until another finds it)",
    example="static:10.0.0.8:29021",
    commands=_SERVE,
    is_repeatable=True,
)
CLUSTER = Setting(
    name="cluster",
    shape="NAME",
    parse=values.cluster_name,
    help="Name of the cluster, mixed into its secret: daemons with another name or secret do not find each other and "
    "do not share. Without a secret the name only keeps those apart that mean well.",
    default="peili",
    example="staging",
    commands=_SERVE,
)
CLUSTER_SECRET_FILE = Setting(
    name="cluster-secret-file",
    shape="PATH",
    parse=values.path,
    help="The cluster's secret: 32 random bytes in base64 on one line; a second line is accepted, too, "
    "while the secret is changed.",
    unset="none (any daemon at a private address is a peer, and no other)",
    example="/etc/peili/secret",
    commands=_SERVE,
)
MIRROR = Setting(
    name="mirror",
    shape="REGISTRY",
    parse=values.registry,
    help="A registry to mirror. serve answers for no other; configure gives it entries of its own, besides "
    "those of well-known registries and of _default.",
    unset="every registry",
    example="ghcr.io",
    commands=_BOTH | _DOCTOR,
    is_repeatable=True,
)
FILTER = Setting(
    name="filter",
    shape="REGEX",
    parse=values.pattern,
    help="Images that are not mirrored: a regular expression that is searched for in "
    "registry/repository:tag or registry/repository@digest.",
    unset="none",
    example="^ghcr\\.io/private/",
    commands=_SERVE,
    is_repeatable=True,
)
ORIGIN = Setting(
    name="origin",
    shape="steer|relay|off",
    parse=values.choice(OriginUse),
    help="What the daemon itself does at registries. steer: nothing but ask, without credentials, whether a tag is "
    "public and where it points; content comes to containerd. relay: it also fetches content that no peer has, for "
    "clients that choose a mirror once (Podman, CRI-O). off: it connects to no registry.",
    default="steer",
    example="relay",
    commands=_SERVE,
)
VERIFY = Setting(
    name="verify",
    shape="auto|always",
    parse=values.choice(Verify),
    help="Which layers are hashed here, too. auto: not one that comes from one complete peer straight into containerd, "
    "which refuses it if it is wrong; then the daemon throws it away and leaves that peer aside. always: every layer, "
    "and containerd gets the end of none that is wrong; costs more CPU, and a file for each. Manifests and what is "
    "below 1 MiB are always hashed.",
    default="auto",
    example="always",
    commands=_SERVE,
)
STALE_PRIVATE = Setting(
    name="stale-private",
    shape="REGISTRY[/PATH]",
    parse=values.image_scope,
    help="Images whose tags hosts tell each other though they are not public: in an outage of the registry every host "
    "of the cluster gets them, also one that the registry would refuse. Give it to all hosts.",
    unset="none: tags of private images are told to nobody",
    example="registry.example/base",
    commands=_SERVE,
    is_repeatable=True,
)
PROTECT = Setting(
    name="protect",
    shape="REGISTRY[/PATH]",
    parse=values.image_scope,
    help="Images whose manifests are the registry's to give each time, so that it checks who asks. Their layers still "
    "come from peers.",
    unset="none",
    example="registry.example/secret",
    commands=_SERVE,
    is_repeatable=True,
)
DOCKER_CONFIG = Setting(
    name="docker-config",
    shape="PATH",
    parse=values.path,
    help="A Docker config.json with credentials (auths, credHelpers, credsStore) for --origin relay. They are used for "
    "content by digest, never to tell what a tag is.",
    unset="none: the daemon fetches what is public",
    example="/etc/peili/config.json",
    commands=_SERVE,
)
ADD_REGISTRIES = Setting(
    name="add-registries",
    shape="on|off",
    parse=values.choice(Switch),
    help="Whether the daemon writes an entry of its own, with the fallback host, for a registry that containerd asks "
    "for the first time. Only where configure has run in --hosts-dir.",
    default="on",
    example="off",
    commands=_SERVE,
)
STALE_TAGS = Setting(
    name="stale-tags",
    shape="auto|on|off",
    parse=values.choice(StaleTags),
    help="Whether containerd may ask the fallback host for a tag that the registry could not give. auto: from "
    "containerd 2.1 on. Before that, on has a price: while the daemon is not running, a tag that does not exist "
    "is reported as a refused connection.",
    default="auto",
    example="on",
    commands=_BOTH,
)
LOG_LEVEL = Setting(
    name="log-level",
    shape="debug|info|warning|error",
    parse=values.choice(LogLevel),
    help="The least severity that is logged.",
    default="info",
    example="debug",
    commands=_SERVE,
)
LOG_FORMAT = Setting(
    name="log-format",
    shape="json|text",
    parse=values.choice(LogFormat),
    help="How a line of the log is written.",
    unset="text on a terminal, else json",
    example="text",
    commands=_SERVE,
)
HOSTS_DIR = Setting(
    name="hosts-dir",
    shape="PATH",
    parse=values.path,
    help="containerd's hosts directory: where its config_path points. serve reads there which mirrors, certificates "
    "and plain-http registries you named.",
    default="/etc/containerd/certs.d",
    example="/etc/cri/conf.d/hosts",
    commands=_HOSTS | _SERVE | _DOCTOR,
)
TAGS = Setting(
    name="tags",
    shape="upstream|peers|off",
    parse=values.choice(Tags),
    help="Who answers for a tag. upstream: the registry, and where it fails peers, for public images (docs/tags.md). "
    "peers: peers first, for sites without a registry. off: the registry alone. Give the same to configure and serve.",
    default="upstream",
    example="off",
    commands=_BOTH,
)
CONTAINERD_CONFIG_PATH = Setting(
    name="containerd-config-path",
    shape="TEXT",
    parse=values.any_text,
    help="config_path as containerd has it in effect (containerd config dump). Some releases take a list "
    "with a colon in it for one path; then the files are written there, too.",
    unset="not known",
    example="/etc/containerd/certs.d:/etc/docker/certs.d",
    commands=_BOTH | _DOCTOR,
)

REMOVE_DATA_DIR = Setting(
    name="remove-data-dir",
    shape="PATH",
    parse=values.path,
    help="A data directory (--data-dir of serve) to remove as well, once its daemon has ended: node id, what is known "
    "of peers and registries, cache and spool. What is not of peili stays in it. Not what PEILI_DATA_DIR says: a host "
    "that serves has it, and must not lose its data for that.",
    unset="none: the data stays",
    example="/var/lib/peili",
    commands=_CLEANUP,
)
STAY_ADDR = Setting(
    name="stay-addr",
    shape="ADDRESS:PORT",
    parse=values.listen_address,
    help="When this host is clean, do not end but say so there (GET /cleaned) until told to stop: what cleanup-wait "
    "asks.",
    unset="none: ends when this host is clean",
    example=":29021",
    commands=_CLEANUP,
)
WAIT_FOR = Setting(
    name="wait-for",
    shape="NAME:PORT",
    parse=values.name_and_port,
    help="A name with the addresses of the hosts that are cleaned, such as a headless Service, and the port of their "
    "--stay-addr.",
    default="peili-cleanup:29021",
    example="cleanup.peili.svc:29021",
    commands=_CLEANUP_WAIT,
)
GIVE_UP_AFTER = Setting(
    name="give-up-after",
    shape="SECONDS",
    parse=values.seconds(WAIT_MIN_S, WAIT_MAX_S),
    help="How long to wait for the hosts. Then those that did not answer are named, and the exit code is 1.",
    # helm gives all hooks of an uninstall five minutes; the pods need some of them to start.
    default="240",
    example="3600",
    commands=_CLEANUP_WAIT,
)

TABLE: tuple[Setting[object], ...] = (
    STORE,
    STORE_DIR,
    CACHE_SIZE,
    CONTAINERD_SOCK,
    CONTAINERD_NAMESPACE,
    CONTAINERD_CONTENT_PATH,
    DATA_DIR,
    REGISTRY_ADDR,
    PEER_ADDR,
    ADMIN_ADDR,
    CONFIGURED_ADDR,
    METRICS_ADDR,
    ADVERTISE_ADDR,
    BOOTSTRAP,
    CLUSTER,
    CLUSTER_SECRET_FILE,
    MIRROR,
    FILTER,
    ORIGIN,
    VERIFY,
    TAGS,
    STALE_PRIVATE,
    PROTECT,
    DOCKER_CONFIG,
    LOG_LEVEL,
    LOG_FORMAT,
    HOSTS_DIR,
    ADD_REGISTRIES,
    STALE_TAGS,
    CONTAINERD_CONFIG_PATH,
    REMOVE_DATA_DIR,
    STAY_ADDR,
    WAIT_FOR,
    GIVE_UP_AFTER,
)


def settings_of(command: Command) -> tuple[Setting[object], ...]:
    return tuple(setting for setting in TABLE if command in setting.commands)
