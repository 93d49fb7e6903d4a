"""Which of this host's addresses others may reach."""

from __future__ import annotations

from dht.bootstrap.interfaces import Interface
from mirror.host.look_network import default_interfaces, ordered, own_addresses

# As `cat /proc/net/route` prints it: wlan0 has the smaller metric, tun0 only half of the addresses.
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	600	00000000	0	0	0
wlan0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
tun0	00000000	0101A8C0	0003	0	0	50	00000080	0	0	0
eth0	0001A8C0	00000000	0001	0	0	600	00FFFFFF	0	0	0
"""


def test_the_way_out_leads() -> None:
    assert default_interfaces(ROUTES.splitlines()) == ("wlan0", "eth0")
    assert default_interfaces([]) == ()


def test_addresses_of_the_way_out_come_first_and_each_once() -> None:
    found = [
        Interface(1, "lan9", ("10.9.0.1",), ()),
        Interface(2, "eth0", ("192.168.1.7",), ("fd00::7",)),
        Interface(3, "wlan0", ("192.168.2.7",), ("fd00::7",)),
    ]
    assert ordered(found, ("wlan0", "eth0")) == ("192.168.2.7", "fd00::7", "192.168.1.7", "10.9.0.1")


def test_this_machine_is_looked_at() -> None:
    assert not [one for one in own_addresses() if one.startswith("127.")]
