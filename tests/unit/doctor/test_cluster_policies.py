"""A NetworkPolicy on the pods' own network: does it close the peer port?"""

from __future__ import annotations

import pytest

from tests.support.cluster_findings import alone, found
from tests.support.cluster_plan import cluster_in_order

PEER_RULE = [{"ports": [{"port": 29021, "protocol": "TCP"}]}]


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
