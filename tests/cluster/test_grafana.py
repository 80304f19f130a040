"""The dashboard: every query names a metric that Ray's Prometheus endpoint has while a run is on."""

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest

from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.core.training import TrackingConfig
from raydistill.distributed.gauges import watched
from raydistill.distributed.tracking import METRICS, Tracking
from raydistill.distributed.tune import Bounds, Search, search
from tests.distributed.toys import kept

pytestmark = pytest.mark.ray

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "raydistill.json"
LIMIT_S = 90


def queried():
    """Return the metrics of every query."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert all(re.findall(r"\bray_\w+", query) for query in queries)
    return {name for query in queries for name in re.findall(r"\bray_\w+", query)}


def exported():
    """Return the names that the node's endpoint has now."""
    import ray

    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return set(re.findall(r"^(\w+)[{ ]", answer.read().decode(), re.MULTILINE))


def test_every_query_names_a_metric_that_a_run_exports(local_ray, tmp_path):
    watched(silent, "teacher_samples")(3, 10, "images")
    point = {"step": 1} | dict.fromkeys(METRICS, 0.5)
    Tracking(TrackingConfig(tensorboard=False), Store.open(str(tmp_path)), "teacher").after_report(
        None, [{"points": [point]}], None
    )
    space = Search({"x": Bounds(0.1, 1.0)}, {"objective": "max"}, num_trials=2, batch=2, seed=0)
    search(kept, {}, 0.3, space, Store.open(str(tmp_path / "search")), silent)
    deadline, missing = time.monotonic() + LIMIT_S, queried()
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        missing -= exported()
    assert not missing


def test_progress_goes_on_to_the_display_with_or_without_ray():
    told = []
    watched(lambda *news: told.append(news), "student")(1, 2, "steps")
    assert told == [(1, 2, "steps")]
