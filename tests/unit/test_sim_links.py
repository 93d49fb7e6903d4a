"""Links of simulated hosts: what takes how long, by arithmetic that a person can do."""

from __future__ import annotations

import random

import pytest

from tests.support.sim_clock import Clock
from tests.support.sim_links import MIB, Downlink, LinkPlan, Transfer, Uplink

RATE = 100.0 * MIB
SEGMENT = MIB // 4
SIZE = 100 * MIB
LOSSLESS = LinkPlan(loss_per_mib=0.0)


class Net:
    def __init__(self, plan: LinkPlan = LOSSLESS) -> None:
        self.clock = Clock()
        self.plan = plan
        self.came_at: dict[str, list[tuple[float, int]]] = {}

    def up(self, rate: float = RATE) -> Uplink:
        return Uplink(self.clock, rate, self.plan, random.Random(1))

    def send(
        self, name: str, up: Uplink, down: Downlink, size: int = SIZE, latency_s: float = 0.0
    ) -> Transfer:
        came = self.came_at[name] = []
        transfer = Transfer(up, down, size, SEGMENT, latency_s, lambda n: came.append((self.clock.now, n)))
        up.send(transfer)
        return transfer

    def run(self) -> dict[str, float]:
        """When each ended."""
        self.clock.run(1000.0, lambda: False)
        return {name: came[-1][0] for name, came in self.came_at.items()}


def test_alone_it_takes_its_bytes_through_the_slower_link() -> None:
    net = Net()
    net.send("up is slower", net.up(RATE / 2), Downlink(RATE), latency_s=0.01)
    net.send("down is slower", net.up(RATE), Downlink(RATE / 4), latency_s=0.01)
    ended = net.run()
    assert ended["up is slower"] == pytest.approx(2.01)
    assert ended["down is slower"] == pytest.approx(4.01)


def test_two_from_one_host_share_its_uplink() -> None:
    net = Net()
    up = net.up()
    net.send("a", up, Downlink(RATE))
    net.send("b", up, Downlink(RATE))
    assert net.run() == pytest.approx({"a": 2.0, "b": 2.0}, abs=0.01)


def test_two_to_one_host_share_its_downlink() -> None:
    net = Net()
    down = Downlink(RATE)
    net.send("a", net.up(), down)
    net.send("b", net.up(), down)
    assert net.run() == pytest.approx({"a": 2.0, "b": 2.0}, abs=0.06)


def test_a_slow_receiver_holds_up_nobody_else() -> None:
    net = Net()
    up = net.up()
    net.send("slow", up, Downlink(RATE / 10))
    net.send("fast", up, Downlink(RATE))
    ended = net.run()
    assert ended["slow"] == pytest.approx(10.0, abs=0.1)
    assert ended["fast"] == pytest.approx(1.11, abs=0.05), (
        "nine tenths of the uplink, but for what the buffers take"
    )


def test_a_connection_has_no_more_under_way_than_its_buffers() -> None:
    net = Net(LinkPlan(window_bytes=MIB, loss_per_mib=0.0))
    net.send("far", net.up(), Downlink(RATE), latency_s=0.1)
    # One MiB each 0.1 s and what sending a segment takes.
    assert net.run()["far"] == pytest.approx(10.2, rel=0.03)


def test_what_was_lost_comes_late_and_in_order() -> None:
    net = Net(LinkPlan(loss_per_mib=0.02, late_s=0.2))
    net.send("a", net.up(), Downlink(RATE))
    ended = net.run()["a"]
    came = net.came_at["a"]
    assert [size for _, size in came] == sorted(size for _, size in came)
    assert 1.15 < ended < 2.0, "two segments or so were late"


def test_who_ends_leaves_the_rest_to_others() -> None:
    net = Net()
    up = net.up()
    ended = net.send("a", up, Downlink(RATE))
    net.send("b", up, Downlink(RATE))
    # While a segment of the other is on its way: both have the same then.
    net.clock.at(1.004, ended.end)
    times = net.run()
    assert times["b"] == pytest.approx(1.5025, abs=0.001)
    assert times["a"] <= 1.004, "nothing is heard of it any more"


def test_things_of_one_instant_happen_in_the_order_in_which_they_were_ordered() -> None:
    clock = Clock()
    seen: list[str] = []
    clock.at(1.0, seen.append, "b")
    clock.at(1.0, seen.append, "c")
    clock.at(0.5, seen.append, "a")
    clock.at(2.0, seen.append, "late")
    clock.run(1.0, lambda: False)
    assert seen == ["a", "b", "c"]
