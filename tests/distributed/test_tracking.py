"""What people see of a training: one callback, whatever listens behind it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from raydistill.core.errors import ConfigError
from raydistill.core.store import Store
from raydistill.core.training import TrackingConfig
from raydistill.distributed.job import check_tracking
from raydistill.distributed.tracking import Tracking

POINTS = [
    {"step": 10, "loss": 0.5, "lr": 0.1, "gradient_norm": None, "images_per_s": 7.0, "memory_gib": 1.0},
    {"step": 20, "train_loss": 0.4, "calibration_loss": 0.5, "gap": 0.25},
]


def events(folder):
    """Read TensorBoard's files: (tag, step) to value."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in folder.glob("events.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found |= {(value.tag, event.step): value for value in event.summary.value}
            at += 16 + length
    return found


@pytest.fixture
def silent_gauges(monkeypatch):
    sent = []
    gauge = lambda name, *_: SimpleNamespace(set=lambda value, tags: sent.append((name, value, tags)))  # noqa: E731
    monkeypatch.setattr("ray.util.metrics.Gauge", gauge)
    return sent


def test_points_reach_tensorboard_and_ray(tmp_path, silent_gauges):
    logs = Store.open(str(tmp_path))
    (tmp_path / "previews").mkdir()
    Image.fromarray(np.full((4, 6), 200, np.uint8)).save(tmp_path / "previews/step.png")
    tracking = Tracking(TrackingConfig(), logs, "teacher")
    tracking.after_report(None, [{"points": [*POINTS, {"step": 20, "preview": "previews/step.png"}]}, {}], None)
    found = events(tmp_path)
    assert found["loss", 10].simple_value == pytest.approx(0.5)
    assert found["gap", 20].simple_value == pytest.approx(0.25)
    assert found["preview", 20].image.width == 6
    assert ("gradient_norm", 10) not in found
    assert ("raydistill_train_loss", 0.5, {"training": "teacher"}) in silent_gauges


def test_an_object_store_gets_the_files_as_they_grow(s3_bucket, silent_gauges):
    logs = Store.open(f"{s3_bucket}/logs")
    tracking = Tracking(TrackingConfig(), logs, "teacher")
    tracking.after_report(None, [{"points": POINTS[:1]}], None)
    (name,) = logs.files()
    size = len(logs.read_bytes(name))
    tracking.after_report(None, [{"points": POINTS[1:]}], None)
    assert logs.files() == [name]
    assert len(logs.read_bytes(name)) > size


def test_other_services_get_the_same_numbers(tmp_path, silent_gauges, monkeypatch):
    sent = []
    run = SimpleNamespace(log=lambda values, step: sent.append(("wandb", step, values)))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **how: sent.append(how) or run))
    flow = SimpleNamespace(
        set_tracking_uri=lambda uri: sent.append(uri),
        set_experiment=lambda name: sent.append(name),
        start_run=lambda run_name: sent.append(run_name),
        log_metrics=lambda values, step: sent.append(("mlflow", step, values)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    config = TrackingConfig(
        tensorboard=False, wandb={"project": "p"}, mlflow={"tracking_uri": "u", "experiment_name": "e"}
    )
    Tracking(config, Store.open(str(tmp_path)), "student").after_report(None, [{"points": POINTS[1:]}], None)
    numbers = {"train_loss": 0.4, "calibration_loss": 0.5, "gap": 0.25}
    assert sent[0] == {"name": "student", "project": "p"}
    assert sent[1:4] == ["u", "e", "student"]
    assert ("wandb", 20, numbers) in sent
    assert ("mlflow", 20, numbers) in sent
    assert not list(tmp_path.glob("events.*"))


def test_a_missing_library_is_said_with_the_line_that_installs_it():
    with pytest.raises(ConfigError, match=r"tracking\.mlflow needs a library that isn't installed: pip install mlflow"):
        check_tracking(TrackingConfig(mlflow={}))
    check_tracking(TrackingConfig())
