"""raydistill from Python: what is imported, what a run's result gives, and mistakes in one line."""

import subprocess
import sys

import numpy as np
import pytest

import raydistill
from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, InputError
from tests.report.builder import build


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "run"
    runner, summary = build(folder)
    runner.run.write_json("summary.json", summary)
    runner.run.write_bytes("config.yaml", b"schema: 1\n")
    return raydistill.open_run(folder), summary


def test_everything_that_is_offered_is_there_and_nothing_is_loaded_before():
    assert {name: getattr(raydistill, name) for name in raydistill.__all__}["Config"] is Config
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        raydistill.rnu  # noqa: B018
    code = "import raydistill, sys; raydistill.__version__; print({'torch', 'ray', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_metrics_are_a_table_and_what_is_not_known_is_no_number(finished):
    result, summary = finished
    metrics = result.metrics()
    told = [(of, name) for of, found in summary["metrics"].items() for name in found]
    assert list(metrics[["of", "metric"]].itertuples(index=False, name=None)) == told
    for row in metrics.itertuples():
        one = summary["metrics"][row.of][row.metric]
        assert np.isnan(row.value) if one["value"] is None else row.value == one["value"]
        assert np.isnan(row.low) if one["interval"] is None else [row.low, row.high] == one["interval"]
    assert metrics.loc[metrics["value"].isna(), "note"].str.len().gt(0).all()


def test_tables_and_pictures_of_a_node_are_read(finished):
    result, _ = finished
    samples = result.table("student_samples", "samples", ["sample_id", "image"])
    pictures = result.pictures("student_samples", 3)
    assert samples.column_names == ["sample_id", "image"]
    assert len(pictures) == 3
    assert pictures[0].mode == "L"
    with pytest.raises(InputError, match=r"has no table 'nothing'; it has samples"):
        result.table("student_samples", "nothing")
    with pytest.raises(InputError, match=r"/samples: no column reson; the columns are sample_id, "):
        result.table("student_samples", "samples", ["sample_id", "reson"])
    with pytest.raises(InputError, match=r"has nothing of nobody; there are ingest, "):
        result.table("nobody")


def test_a_mistake_is_one_line_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="did you mean num_trials"):
        raydistill.run({"tune": {"num_trails": 3}}, tmp_path)
    with pytest.raises(ConfigError, match="did you mean num_trials"):
        raydistill.run(Config(), tmp_path, ["tune.num_trails=3"])
    with pytest.raises(InputError, match="is it a run folder"):
        raydistill.open_run(tmp_path)
    assert not list(tmp_path.iterdir())
