"""Which peers are listed, in which order, and where the list ends."""

from __future__ import annotations

import random
from dataclasses import dataclass

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import NodeId
from dht.members.members import Members
from dht.params import Params
from mirror.admin.answers import Peer, Peers
from mirror.admin.peer_list import PEERS_MAX_COUNT, Channel, list_peers
from mirror.discovery import peer_info
from mirror.discovery.base import Peer as Place
from mirror.herd.avoided import AVOIDED_S, LIED_S, Avoided
from mirror.peer.tally import PeerTally

OWN = Contact(b"\xff" * 20, 1, (), b"")
INFO = peer_info.encode(peer_info.PeerInfo(29021))


@dataclass
class FakeChannel:
    peer: Place
    node: NodeId
    zone: str = ""
    version: int = 1


def member(number: int, info: bytes = INFO) -> Contact:
    return Contact(node(number), 1, (Endpoint(f"10.0.{number // 250}.{number % 250}", 29000),), info)


def node(number: int) -> bytes:
    return number.to_bytes(2, "big") + bytes(18)


def members_of(*contacts: Contact) -> Members:
    members = Members(OWN, Params())
    members.preload(contacts)
    return members


def listed(
    members: Members,
    *channels: Channel,
    avoided: Avoided | None = None,
    tally: PeerTally | None = None,
) -> Peers:
    return list_peers(members, channels, (avoided or Avoided(lambda: 0.0)).reason, tally or PeerTally())


def test_a_member_is_told_at_the_address_of_its_peer_http() -> None:
    seed = peer_info.encode(peer_info.PeerInfo(5000, is_seed=True))
    assert listed(members_of(member(1), member(2, seed))) == Peers(
        total=2,
        truncated=False,
        peers=[
            Peer(
                address="10.0.0.1:29021",
                node_id="0001" + "0" * 8,
                state="known",
                channel_version=None,
                zone=None,
                seed=False,
                avoided=None,
                received_bytes=0,
                served_bytes=0,
            ),
            Peer(
                address="10.0.0.2:5000",
                node_id="0002" + "0" * 8,
                state="known",
                channel_version=None,
                zone=None,
                seed=True,
                avoided=None,
                received_bytes=0,
                served_bytes=0,
            ),
        ],
    )


def test_who_has_a_channel_is_first_and_once_member_or_not() -> None:
    at_home = FakeChannel(Place("10.0.0.2", 29021), NodeId(node(2)), "zone-b", 3)
    unknown = FakeChannel(Place("10.0.0.9", 29021), NodeId(node(9)))
    found = listed(members_of(member(1), member(2)), unknown, at_home)
    assert [(one.address, one.state, one.zone, one.channel_version) for one in found.peers] == [
        ("10.0.0.2:29021", "connected", "zone-b", 3),
        ("10.0.0.9:29021", "connected", None, 1),
        ("10.0.0.1:29021", "known", None, None),
    ]
    assert (found.total, found.truncated) == (3, False)


def test_what_a_later_release_says_of_itself_has_no_address() -> None:
    (one,) = listed(members_of(member(1, b"\xc1"))).peers
    assert (one.address, one.avoided, one.received_bytes) == (None, None, 0)


def test_why_a_peer_is_left_aside() -> None:
    now = 100.0
    avoided = Avoided(lambda: now)
    avoided.unreachable(Place("10.0.0.1", 29021))
    avoided.unreachable(Place("10.0.0.2", 29021))
    avoided.lied("10.0.0.2:29021")
    members = members_of(*map(member, range(1, 4)))
    found = [one.avoided for one in listed(members, avoided=avoided).peers]
    assert found == ["unreachable", "wrong_bytes", None]
    now += max(AVOIDED_S, LIED_S)
    assert [one.avoided for one in listed(members, avoided=avoided).peers] == [None, None, None]


def test_what_came_and_went() -> None:
    tally = PeerTally()
    tally.received(Place("10.0.0.1", 29021), 5)
    tally.received(Place("10.0.0.1", 29021), 6)
    tally.served("::ffff:10.0.0.2", 7)
    found = listed(members_of(member(1), member(2)), tally=tally).peers
    assert [(one.received_bytes, one.served_bytes) for one in found] == [(11, 0), (0, 7)]


def test_the_largest_cluster_is_cut_and_says_so() -> None:
    count = Params().members_max_count
    members = members_of(*(member(number) for number in range(count)))
    numbers = random.Random(1).sample(range(count), 100)
    channels = [FakeChannel(Place("10.1.0.1", number), NodeId(node(number))) for number in numbers]
    found = listed(members, *channels)
    assert (found.total, found.truncated, len(found.peers)) == (count, True, PEERS_MAX_COUNT)
    assert [one.state for one in found.peers[:101]] == ["connected"] * 100 + ["known"]
    assert len({one.node_id for one in found.peers}) == PEERS_MAX_COUNT


def test_more_channels_than_the_cap_are_cut() -> None:
    numbers = range(1, PEERS_MAX_COUNT + 3)
    channels = [FakeChannel(Place("10.1.0.1", number), NodeId(node(number))) for number in numbers]
    found = listed(members_of(member(1)), *channels)
    assert (found.total, found.truncated, len(found.peers)) == (len(channels), True, PEERS_MAX_COUNT)
