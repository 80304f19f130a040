"""When Ray is asked: before any work where it alone can say whether there is room, else when a stage needs it."""

import pytest

from raydistill import running
from raydistill.core.errors import ConfigError
from raydistill.core.loading import load_config
from raydistill.core.store import Store
from raydistill.distributed.capacity import Kind, Room
from raydistill.pipeline import wire

SMALL = ["source.num_patients=30", "ingest.near_duplicate_similarity=null"]


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Run to where Ray is asked, which has no room; give the nodes that are there by then."""

    def no_room(*_):
        raise ConfigError("there is no room")

    monkeypatch.setattr(running, "_connect", no_room)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(*overrides):
        with pytest.raises(ConfigError, match="there is no room"):
            running.run(load_config(None, [*SMALL, *overrides]), str(tmp_path / "run"))
        store = Store.open(str(tmp_path / "run"))
        return {name.split("/")[0] for name in store.files() if name.endswith("manifest.json")}

    return run


def test_without_gpus_the_cohort_is_read_before_ray_starts(refused):
    assert refused() == {"ingest"}


@pytest.mark.parametrize("asked", ["preset=one_gpu", "teacher.compute.memory_gb=1000"])
def test_gpus_and_memory_are_asked_for_before_any_work(refused, asked):
    assert refused(asked) == set()


def test_a_cluster_that_is_joined_is_asked_before_any_work(refused, monkeypatch):
    monkeypatch.setattr("raydistill.distributed.session.reachable_address", lambda: "10.0.0.1:6379")
    assert refused() == set()


def test_short_students_of_a_search_need_room_too():
    config = load_config(None, ["tune.students=2", "student.compute.num_gpus=1"])
    (tune,) = (stage for stage in wire(config) if stage.node == "tune")
    cpus = Room([Kind({"CPU": 8})])
    assert tune.compute.num_gpus == 0
    assert running._never([tune], cpus, cpus).startswith(
        "tune for its short students asks for 1 worker of 1 CPU, 1 GPU"
    )
    assert running._never([tune], cpus, Room([Kind({"CPU": 8, "GPU": 1})])) is None
