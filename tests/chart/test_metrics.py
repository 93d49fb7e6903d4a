"""Dashboard and alerts speak of metrics that the daemon has, in expressions that Prometheus reads."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mirror.metrics import Metrics
from tests.support.dht_view import View
from tests.support.helm_chart import CHART, REPOSITORY, Object, one
from tests.support.skips import tool_bin

DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SHOWN = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [*SHOWN, *((rule["alert"], rule["expr"]) for rule in ALERTS)]
# What Grafana puts into an expression.
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h", "$job": ".*"}


def plain(expression: str) -> str:
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Each sample that the metrics page has, with the names of its labels, in its text format."""
    metrics = Metrics()
    metrics.show_dht(View())
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        # A counter by words of the DHT has no sample before the first one.
        if family.type == "counter" and family.name.startswith("peili_dht_"):
            found.setdefault(f"{family.name}_total", set())
    return found


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=lambda it: it[:30])
def test_an_expression_asks_for_metrics_that_there_are(
    samples: dict[str, set[str]], title: str, expression: str
) -> None:
    names = set(re.findall(r"\bpeili_[a-z_]+", expression))
    assert names and names <= samples.keys(), names - samples.keys()
    documented = (REPOSITORY / "docs" / "metrics.md").read_text()
    for name in names:
        assert f"| `{re.sub('_(bucket|sum|count)$', '', name)}` |" in documented
    for name, matchers in re.findall(r"\b(peili_[a-z_]+)\{([^}]*)\}", expression):
        row = next(
            line for line in documented.splitlines() if line.startswith(f"| `{name.removesuffix('_bucket')}`")
        )
        for label in re.findall(r"(\w+)=", matchers):
            assert label == "job" or f"`{label}`" in row, (name, label)


def test_each_label_value_that_is_asked_for_is_one_that_there_is() -> None:
    documented = (REPOSITORY / "docs" / "metrics.md").read_text()
    for _, expression in EXPRESSIONS:
        for value in re.findall(r'\w+="([a-z_]+)"', expression):
            assert f"`{value}`" in documented, value


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    assert all(panel["title"] and panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval", "__range"}
    assert used == variables == {"datasource", "job"}
    # In a grid of 24 columns, and none on another.
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not covered & cells and max(x for x, _ in covered) < 24
        cells |= covered


def test_an_alert_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) >= 5
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"] and len(rule["annotations"]["description"]) > 60


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("ConfigMap", lambda it: json.loads(it["data"]["peili.json"]) == DASHBOARD),
        ("PrometheusRule", lambda it: [r for g in it["spec"]["groups"] for r in g["rules"]] == ALERTS),
    ],
)
def test_the_chart_renders_the_files_as_they_are(
    case: Callable[[str], list[Object]], kind: str, read: Callable[[Object], bool]
) -> None:
    assert read(one(case("everything"), kind))


def test_prometheus_reads_alerts_and_expressions(tmp_path: Path) -> None:
    shown = [{"record": f"panel:{number}", "expr": plain(text)} for number, (_, text) in enumerate(SHOWN)]
    rules = {"groups": [{"name": "alerts", "rules": ALERTS}, {"name": "panels", "rules": shown}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    command = [str(tool_bin("prometheus") / "promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS) + len(shown)} rules found" in done.stdout
    broken = {"groups": [{"name": "broken", "rules": [{**ALERTS[0], "expr": "peili_dht_isolated == == 1"}]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(broken))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


ALERT_TESTS = """
rule_files: [rules.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'peili_dht_isolated{job="p", instance="a"}', values: '1x60'}
      - {series: 'peili_dht_isolated{job="p", instance="b"}', values: '0x60'}
      - {series: 'peili_dht_members{job="p", instance="a"}', values: '3x60'}
      - {series: 'peili_dht_members{job="p", instance="b"}', values: '9x60'}
    alert_rule_test:
      - {eval_time: 50m, alertname: PeiliIsolated, exp_alerts: [{exp_labels: {severity: warning, job: p, instance: a}}]}
      - {eval_time: 50m, alertname: PeiliClusterSplit, exp_alerts: [{exp_labels: {severity: warning, job: p}}]}
  - interval: 10m
    input_series:
      - {series: 'peili_announced_digests{job="p", instance="idle"}', values: '5x200'}
      - {series: 'peili_announced_digests{job="p", instance="unasked"}', values: '5+1x200'}
      - {series: 'peili_announced_digests{job="p", instance="asked"}', values: '5+1x200'}
      - {series: 'peili_requests_total{job="p", instance="idle", outcome="miss"}', values: '0x200'}
      - {series: 'peili_requests_total{job="p", instance="unasked", outcome="miss"}', values: '0x200'}
      - {series: 'peili_requests_total{job="p", instance="asked", outcome="miss"}', values: '0+1x200'}
    alert_rule_test:
      - eval_time: 30h
        alertname: PeiliNotAsked
        exp_alerts: [{exp_labels: {severity: warning, job: p, instance: unasked}}]
      - {eval_time: 30h, alertname: PeiliClusterSplit, exp_alerts: []}
"""


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    bare = [{**rule, "annotations": {}} for rule in ALERTS]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "alerts", "rules": bare}]}))
    (tmp_path / "tests.yaml").write_text(ALERT_TESTS)
    command = [str(tool_bin("prometheus") / "promtool"), "test", "rules", "tests.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
