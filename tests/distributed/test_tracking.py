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


@pytest.fixture
def services(monkeypatch):
    """Stand in for two services; what they are told, in order."""
    sent = []

    def log(values, step):
        sent.append(("wandb", step, values))

    def log_metrics(values, step):
        sent.append(("mlflow", step, values))

    run = SimpleNamespace(log=log, finish=lambda: sent.append("wandb ends"))
    fake = SimpleNamespace(init=lambda **how: sent.append(("wandb", how)) or run, Image=lambda picture: picture.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    flow = SimpleNamespace(
        set_tracking_uri=lambda uri: sent.append(("uri", uri)),
        set_experiment=lambda name: sent.append(("experiment", name)),
        search_runs=lambda filter_string, output_format: [],
        start_run=lambda **how: sent.append(("run", how)),
        log_metrics=log_metrics,
        log_image=lambda picture, name: sent.append((name, picture.shape)),
        end_run=lambda: sent.append("mlflow ends"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    return sent, run, flow


BOTH = TrackingConfig(
    tensorboard=False,
    wandb={"project": "p"},
    mlflow={"tracking_uri": "u", "experiment_name": "e"},
    pictures=True,
)


def told(folder, *points, config=BOTH, **more):
    tracking = Tracking(config, Store.open(str(folder)) / "teacher/k1", "teacher")
    tracking.after_report(None, [{"points": points, **more}], None)


def test_other_services_get_the_same_numbers_and_pictures(tmp_path, silent_gauges, services):
    sent, _, _ = services
    (tmp_path / "teacher/k1/previews").mkdir(parents=True)
    Image.fromarray(np.full((4, 6), 200, np.uint8)).save(tmp_path / "teacher/k1/previews/step.png")
    told(tmp_path, POINTS[1], {"step": 20, "preview": "previews/step.png"}, is_last=True)
    numbers = {"train_loss": 0.4, "calibration_loss": 0.5, "gap": 0.25}
    assert ("wandb", {"name": "teacher", "id": "teacher-k1", "resume": "allow", "project": "p"}) in sent
    assert ("uri", "u") in sent
    assert ("experiment", "e") in sent
    assert ("run", {"run_name": "teacher", "tags": {"raydistill": "teacher-k1"}}) in sent
    assert ("wandb", 20, numbers) in sent
    assert ("mlflow", 20, numbers) in sent
    assert ("wandb", 20, {"preview": (4, 6)}) in sent
    assert ("previews/step.png", (4, 6)) in sent
    assert sent[-1] == "mlflow ends"
    assert "wandb ends" in sent
    assert not list(tmp_path.rglob("events.*"))


def test_no_picture_leaves_unless_somebody_says_so(tmp_path, silent_gauges, services):
    sent, _, _ = services
    config = BOTH.model_copy(update={"pictures": TrackingConfig().pictures})
    told(tmp_path, {**POINTS[0], "preview": "previews/step.png"}, config=config)
    assert {entry[0] for entry in sent if 10 in entry} == {"wandb", "mlflow"}
    assert not [entry for entry in sent if "preview" in str(entry)]


def test_a_run_that_a_lost_driver_began_is_gone_on_with(tmp_path, silent_gauges, services):
    sent, _, flow = services
    asked = []
    known = [SimpleNamespace(info=SimpleNamespace(run_id="r7"))]
    flow.search_runs = lambda filter_string, output_format: asked.append(filter_string) or known
    told(tmp_path, POINTS[0])
    assert asked == ["tags.raydistill = 'teacher-k1'"]
    assert ("run", {"run_id": "r7"}) in sent


def test_a_service_that_fails_is_said_and_stops_nobody(tmp_path, silent_gauges, services, caplog):
    sent, run, _ = services

    def down(values, step):
        raise ConnectionError("no route to host")

    run.log = down
    told(tmp_path, *POINTS)
    assert "Weights & Biases of teacher wasn't told how the training goes: no route to host" in caplog.text
    assert [entry[1] for entry in sent if entry[0] == "mlflow"] == [10, 20]


def test_a_missing_library_is_said_with_the_line_that_installs_it():
    with pytest.raises(ConfigError, match=r"tracking\.mlflow needs a library that isn't installed: pip install mlflow"):
        check_tracking(TrackingConfig(mlflow={}))
    check_tracking(TrackingConfig())
