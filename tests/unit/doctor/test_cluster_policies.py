"""A NetworkPolicy on the pods' own network: does it close the peer port?"""

from __future__ import annotations

import pytest

from tests.support.cluster_findings import alone, found
from tests.support.cluster_plan import cluster_in_order

PEER_RULE = [{"ports": [{"port": 29021, "protocol": "TCP"}]}]
UDP_ONLY = {"ports": [{"port": "peer-udp", "protocol": "UDP"}]}


@pytest.mark.parametrize(
    ("spec", "blocked"),
    [
        ({"ingress": PEER_RULE}, "ingress UDP 29021"),
        ({"ingress": []}, "ingress TCP 29021, ingress UDP 29021"),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, "ingress TCP 29021, ingress UDP 29021"),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.2/32"]}}]}]},
            "ingress TCP",
        ),
        (
            {"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]},
            "egress TCP 29021",
        ),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, ""),
        ({"ingress": [{"ports": [{"port": "peer"}, {"port": "peer-udp", "protocol": "UDP"}]}]}, ""),
        (
            {
                "ingress": [
                    {
                        "ports": [
                            {"port": 29000, "endPort": 29100},
                            {"port": 29000, "endPort": 29100, "protocol": "UDP"},
                        ]
                    }
                ]
            },
            "",
        ),
        ({"policyTypes": ["Egress"], "egress": [{}]}, ""),
        ({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": []}, ""),
    ],
)
def test_a_policy_that_closes_the_peer_port(spec: dict[str, object], blocked: str) -> None:
    plan = cluster_in_order(3, "hostport")
    plan.policy(**spec)
    if not blocked:
        assert found(plan) == ()
        return
    one = alone(plan)
    assert one.code == "network-policy-blocks" and f"narrow: no rule lets {blocked}" in one.evidence


def test_what_one_policy_lets_another_does_not_close() -> None:
    plan = cluster_in_order(3, "hostport")
    plan.policy(ingress=[])
    plan.policy(ingress=[{}])
    assert found(plan) == ()


def test_rules_that_name_some_of_the_hosts_each_add_up() -> None:
    plan = cluster_in_order(3, "hostport")
    blocks = [{"ipBlock": {"cidr": f"10.0.0.{number}/32"}} for number in (1, 2, 3)]
    plan.policy(ingress=[{"from": blocks[:1]}, {"from": blocks[1:2], **UDP_ONLY}])
    plan.policy(ingress=[{"from": blocks[1:], "ports": [{"port": "peer"}]}])
    assert "no rule lets ingress UDP 29021 between" in alone(plan).evidence
    plan.policy(ingress=[{"from": blocks[2:], **UDP_ONLY}])
    assert found(plan) == ()


def test_no_block_is_judged_without_the_addresses_of_the_hosts() -> None:
    plan = cluster_in_order(3, "hostport")
    plan.policy(ingress=[{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}])
    assert alone(plan).code == "network-policy-blocks"
    assert [one.code for one in found(plan, forbidden=("/nodes",))] == ["not-seen"]
