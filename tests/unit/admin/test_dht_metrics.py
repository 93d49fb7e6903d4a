"""What the DHT counts, as Prometheus sees it: every number once, every label bounded and documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import generate_latest

from dht.claims.rulings import Ruling
from dht.lookup.lookup import Outcome
from dht.stats import HOPS_BOUNDS, RTT_BOUNDS_S
from dht.wire.codec import Verb
from mirror import metrics as page
from mirror.metrics import Metrics
from tests.support.dht_view import View

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs/metrics.md").read_text()


def shown(view: View) -> dict[str, float]:
    """The samples of the page, by name and labels."""
    metrics = Metrics()
    metrics.show_dht(view)
    text = generate_latest(metrics.registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("peili_dht_")]
    assert len({name for name, _, _ in lines}) == len(lines), "a sample stands twice"
    return {name: float(value) for name, _, value in lines}


def test_gauges() -> None:
    assert shown(View())["peili_dht_isolated"] == 0
    found = shown(View(members=[1, 2], records=[1, 2, 3], is_isolated=True))
    assert found["peili_dht_members"] == 2
    assert found["peili_dht_records"] == 3
    assert found["peili_dht_isolated"] == 1


def test_rpcs_in_both_directions() -> None:
    view = View()
    view.stats.rpcs_sent["get_providers", "answered"] = 5
    view.stats.rpcs_sent["get_providers", "timeout"] = 1
    view.stats.rpcs_received["get_providers", "answered"] = 7
    found = {name: value for name, value in shown(view).items() if name.startswith("peili_dht_rpcs")}
    assert found == {
        'peili_dht_rpcs_total{direction="sent",outcome="answered",rpc="get_providers"}': 5,
        'peili_dht_rpcs_total{direction="sent",outcome="timeout",rpc="get_providers"}': 1,
        'peili_dht_rpcs_total{direction="received",outcome="answered",rpc="get_providers"}': 7,
    }


def test_lookups_begin_at_zero() -> None:
    view = View()
    view.stats.lookups["found"] = 3
    found = shown(view)
    assert found['peili_dht_lookups_total{outcome="found"}'] == 3
    assert found['peili_dht_lookups_total{outcome="missing"}'] == 0


def test_claims_by_verb_and_outcome() -> None:
    view = View()
    view.stats.claims["ask", "granted"] = 2
    view.stats.claims["ask", "replaced"] = 1
    view.stats.claims["release", "told"] = 3
    found = {name: value for name, value in shown(view).items() if name.startswith("peili_dht_claims")}
    assert found == {
        'peili_dht_claims_total{outcome="granted",verb="ask"}': 2,
        'peili_dht_claims_total{outcome="replaced",verb="ask"}': 1,
        'peili_dht_claims_total{outcome="told",verb="release"}': 3,
    }


def test_counters_of_traffic() -> None:
    view = View()
    view.stats.datagrams_sent, view.stats.datagrams_received = 1, 2
    view.stats.bytes_sent, view.stats.bytes_received, view.stats.conflicts = 3, 4, 5
    found = shown(view)
    assert found['peili_dht_datagrams_total{direction="sent"}'] == 1
    assert found['peili_dht_datagrams_total{direction="received"}'] == 2
    assert found['peili_dht_bytes_total{direction="sent"}'] == 3
    assert found['peili_dht_bytes_total{direction="received"}'] == 4
    assert found["peili_dht_conflicts_total"] == 5


def test_histograms_are_cumulative() -> None:
    view = View()
    for rtt_s in (0.0004, 0.0005, 0.003, 7.0):
        view.stats.rtt_s.observe(rtt_s)
    view.stats.hops.observe(1)
    found = shown(view)
    rtts = [found[f'peili_dht_rtt_seconds_bucket{{le="{bound}"}}'] for bound in (*RTT_BOUNDS_S, "+Inf")]
    assert rtts == [2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4]
    assert found["peili_dht_rtt_seconds_count"] == 4
    assert found["peili_dht_rtt_seconds_sum"] == pytest.approx(7.0039)
    hops = [found[f'peili_dht_lookup_hops_bucket{{le="{float(bound)}"}}'] for bound in HOPS_BOUNDS]
    assert hops == [1] * len(HOPS_BOUNDS)


def test_words_that_are_not_known_are_one_label() -> None:
    view = View()
    for number in range(1000):
        view.stats.drops[f"invented {number}"] += 1
        view.stats.drops[f"beacon_{number}"] += 1
        view.stats.lookups[f"invented {number}"] += 1
        view.stats.rpcs_sent[f"invented {number}", f"so {number}"] += 1
        view.stats.claims[f"invented {number}", f"so {number}"] += 1
    view.stats.drops["mac"] = view.stats.drops["bad endpoint"] = 2
    found = shown(view)
    assert {name: value for name, value in found.items() if name.startswith("peili_dht_drops")} == {
        'peili_dht_drops_total{reason="other"}': 1000,
        'peili_dht_drops_total{reason="beacon"}': 1000,
        'peili_dht_drops_total{reason="mac"}': 2,
        'peili_dht_drops_total{reason="bad_endpoint"}': 2,
    }
    assert found['peili_dht_lookups_total{outcome="other"}'] == 1000
    assert found['peili_dht_rpcs_total{direction="sent",outcome="other",rpc="other"}'] == 1000
    assert found['peili_dht_claims_total{outcome="other",verb="other"}'] == 1000
    assert len(found) < 80


def reasons_in(path: Path) -> set[str]:
    """Every word that the module gives as a reason for not acting on a datagram."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        words: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "Dropped",
            "Refused",
            "FrameInvalid",
            "UnknownRpc",
        ):
            words = node.args
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".drops"):
            words = [node.slice]
        found |= {
            word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)
        }
    return found


def test_every_reason_of_the_dht_has_its_label() -> None:
    found = set().union(*(reasons_in(path) for path in (ROOT / "dht").rglob("*.py")))
    assert len(found) > 25, found
    unknown = {reason for reason in found if page._drop_label(reason) == page.OTHER}
    assert unknown == set()


def test_every_lookup_outcome_of_the_dht_has_its_label() -> None:
    assert {outcome.value for outcome in Outcome} < set(page.LOOKUP_OUTCOMES)


def test_every_ruling_that_a_claim_may_end_with_has_its_label() -> None:
    """The others send the asker on, or answer a release, which nobody waits for."""
    words = {one.__name__.lower() for one in get_args(Ruling)} - {"redirect", "notjoined", "released"}
    assert len(words) >= 7
    assert words | {"unreached", "told", "replaced"} == page.CLAIM_OUTCOMES
    assert {verb.name.lower() for verb in Verb} == page.CLAIM_VERBS


@pytest.mark.parametrize(
    "words",
    [
        page.RPCS,
        page.RPC_OUTCOMES,
        page.LOOKUP_OUTCOMES,
        page.DROP_REASONS,
        page.CLAIM_VERBS,
        page.CLAIM_OUTCOMES,
    ],
    ids=["rpc", "rpc outcome", "lookup", "drop", "claim", "claim outcome"],
)
def test_every_label_is_documented(words: frozenset[str]) -> None:
    named = set(re.findall(r"`(\w+)`", DOCUMENT))
    assert set(words) <= named
