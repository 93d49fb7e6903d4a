"""Which addresses of this host others may reach. Linux only; looks, changes nothing."""

from __future__ import annotations

from pathlib import Path

from dht.bootstrap.interfaces import Interface, multicast_interfaces

_ROUTES = Path("/proc/self/net/route")
# Made by Docker, CNI plugins and libvirt: they lead to containers and virtual machines of this host.
_INNER = (
    "docker",
    "br-",
    "veth",
    "cni",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "virbr",
    "kube-",
    "podman",
    "tap",
    "vnet",
)
_DEFAULT = "00000000"


def own_addresses() -> tuple[str, ...]:
    """IP literals, those of the interface with the default route first, IPv4 before IPv6."""
    leading = default_interfaces(_routes())
    found = [one for one in multicast_interfaces() if not one.name.startswith(_INNER)]
    return ordered(found, leading)


def ordered(found: list[Interface], leading: tuple[str, ...]) -> tuple[str, ...]:
    places = {name: place for place, name in enumerate(leading)}
    ranked = sorted(found, key=lambda one: (places.get(one.name, len(places)), one.index))
    return tuple(dict.fromkeys(text for one in ranked for text in (*one.v4, *one.v6)))


def default_interfaces(lines: list[str]) -> tuple[str, ...]:
    """Names, the route with the smallest metric first (source: Linux, net/ipv4/fib_trie.c, fib_route_seq_show)."""
    routes = []
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == _DEFAULT and fields[7] == _DEFAULT:
            routes.append((int(fields[6]), fields[0]))
    return tuple(dict.fromkeys(name for _, name in sorted(routes)))


def _routes() -> list[str]:
    try:
        return _ROUTES.read_text().splitlines()
    except OSError:
        return []
