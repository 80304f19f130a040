"""The dashboard: every query names a metric that Ray's Prometheus endpoint has while a run is on."""

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from raydistill.core.config import Config
from raydistill.core.store import Store
from raydistill.core.training import GuardConfig
from raydistill.display import Display
from raydistill.distributed.gauges import watched
from raydistill.distributed.job import Guard
from raydistill.distributed.train import train
from raydistill.distributed.tune import Search, search
from raydistill.pipeline import wire
from raydistill.runner import Runner
from raydistill.running import _execute
from raydistill.stages.base import Outcome, Stage
from raydistill.stages.space import searched
from raydistill.stages.trial import evaluate_setting
from tests.distributed.jobs import curve_job
from tests.distributed.test_split import guard_rows, stream
from tests.distributed.toys import Rows
from tests.stages.test_trial import evidence

pytestmark = pytest.mark.ray

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "raydistill.json"
OF_GPUS = ("ray_node_gpu", "ray_node_gram")
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


class Watched(Stage):
    """A training, held against other rows, then a search over filter settings, both of the product; their data is small."""

    def run(self, context):
        guard = Guard(partial(guard_rows, 3.0), GuardConfig(every=10, draws=1))
        more = {"guard": guard, "logs": context.logs, "name": "teacher"}
        train(
            curve_job(context.work.path, make=partial(Rows, pause=0.1), more=more | {"stream": stream(12)}),
            0,
            context.progress,
        )
        config = next(stage for stage in wire(Config()) if stage.node == "tune").config
        space = Search(searched(config.tune.space), {"objective": "max"}, num_trials=2, batch=2, seed=0)
        search(evaluate_setting, {"config": config}, evidence(), space, context.work, context.logs, context.progress)
        return Outcome()


def test_every_query_names_a_metric_that_a_run_exports(local_ray, tmp_path):
    """Nothing is told here: all of it is what the product says of a node that it executes, and what Ray says of itself."""
    stage = Watched("teacher", Config(), {}, 0)
    runner = Runner(Store.open(str(tmp_path)), Config(), [stage])
    gpus = {name for name in queried() if name.startswith(OF_GPUS)}
    missing, over = queried() - gpus, Event()

    def look():
        deadline = None
        while missing and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.5)
            missing.difference_update(exported())
            # What has just been told is exported a few seconds later.
            deadline = deadline or (time.monotonic() + LIMIT_S if over.is_set() else None)

    with ThreadPoolExecutor(1) as looking:
        looked = looking.submit(look)
        try:
            _execute(runner, stage, 1, Display(quiet=True))
        finally:
            over.set()
        looked.result()
    assert not missing
    # What Ray says of GPUs it says where there are any.
    assert gpus <= ({f"ray_{name}" for name in METRICS_GAUGES} if not local_ray["gpus"] else exported())


def test_progress_goes_on_to_the_display_with_or_without_ray():
    told = []
    watched(lambda *news: told.append(news), "student")(1, 2, "steps")
    assert told == [(1, 2, "steps")]
