"""The recipes of the documentation: Prometheus's rules and Grafana's dashboard name existing metrics."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from falcon_pachinko.server.metrics import HISTOGRAM, METRICS

from .support.processes import required_program

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
RULES = RECIPES / "prometheus-rules.yaml"
DASHBOARD = RECIPES / "grafana-dashboard.json"
NAME = re.compile(r"pachinko_\w+")
MATCHER = re.compile(r"(pachinko_\w+)\{(\w+)=")
GROUPING = re.compile(r"by \(([^)]*)\)")
# Prometheus adds these to each series.
TARGET_LABELS = {"instance", "job", "le"}


def series_labels() -> dict[str, set[str]]:
    """Return the names of all series with their labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind == HISTOGRAM else ("",)
        for end in ends:
            found[metric.full_name + end] = set(metric.labels)
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def queries() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *shown]


@pytest.mark.parametrize("query", queries())
def test_a_query_names_existing_metrics_and_labels(query: str) -> None:
    known = series_labels()
    names = NAME.findall(query)
    assert set(names) <= known.keys()
    for name, label in MATCHER.findall(query):
        assert label in known[name]
    allowed = TARGET_LABELS.union(*(known[name] for name in names))
    for labels in GROUPING.findall(query):
        assert set(re.split(r",\s*", labels)) <= allowed


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for panel in panels() for name in NAME.findall(json.dumps(panel["targets"]))}
    ends = "_bucket"
    assert {name.removesuffix(ends) for name in shown} == {metric.full_name for metric in METRICS}


def test_the_panels_of_the_dashboard_are_complete() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        assert panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


def test_each_alert_tells_its_reader_where_and_what() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_prometheus_accepts_the_rules_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    promtool = required_program("promtool")
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    recorded = [
        {"record": f"shown:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(shown)
    ]
    file = tmp_path / "dashboard.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}), "utf-8")
    for path in (RULES, file):
        result = subprocess.run(
            [promtool, "check", "rules", path], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stdout + result.stderr
