"""What people watch of a training: TensorBoard, Weights & Biases, MLflow and Ray's own metrics, through one callback.

Workers hand over points, `{"step": …, "loss": …}`, with their reports; the callback lives beside Ray Train's
controller and passes them on. A point's `preview` names a PNG below the logs.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from raydistill.core.store import Store
from raydistill.core.training import TrackingConfig

Point = Mapping[str, Any]
Sink = Callable[[Point], None]

METRICS = {
    "loss": "mean loss of the global batch",
    "lr": "learning rate",
    "gradient_norm": "L2 norm of the gradient before clipping",
    "images_per_s": "rows of the global batch a second",
    "memory_gib": "most memory the first worker has held: of the GPU, or of the process without one",
    "train_loss": "loss of some train images, fixed noise",
    "calibration_loss": "loss of as many calibration images, the same noise",
    "gap": "calibration loss over train loss, less one",
}
"""What a point may hold, beside `step`."""


class Tracking(UserCallback):  # type: ignore[misc]
    """Passes every point on to what the configuration names. Built where it runs: connections don't travel.

    Args:
        config: which services.
        logs: the folder for TensorBoard's files and where previews are.
        name: of the training, such as `teacher`.
    """

    def __init__(self, config: TrackingConfig, logs: Store, name: str) -> None:
        """Connect at the first point."""
        self.config, self.logs, self.name = config, logs, name
        self.sinks: list[Sink] | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Pass on the points of the first worker."""
        if self.sinks is None:
            self.sinks = self._connect()
        for point in metrics[0].get("points", ()):
            for sink in self.sinks:
                sink(point)

    def _connect(self) -> list[Sink]:
        sinks: list[Sink] = [_ray_metrics(self.name)]
        if self.config.tensorboard:
            sinks.append(_tensorboard(self.logs))
        if self.config.wandb is not None:
            sinks.append(_wandb(self.config.wandb, self.name))
        if self.config.mlflow is not None:
            sinks.append(_mlflow(self.config.mlflow, self.name))
        return sinks


def scalars(point: Point) -> dict[str, float]:
    """What of a point is a number to plot."""
    return {name: float(point[name]) for name in METRICS if point.get(name) is not None}


def _ray_metrics(name: str) -> Sink:
    from ray.util.metrics import Gauge

    gauges = {metric: Gauge(f"raydistill_train_{metric}", said, ("training",)) for metric, said in METRICS.items()}

    def send(point: Point) -> None:
        for metric, value in scalars(point).items():
            gauges[metric].set(value, {"training": name})

    return send


def _tensorboard(logs: Store) -> Sink:
    import numpy as np
    from PIL import Image
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event

    # An event file grows; an object store can't append, so it is written here and copied when it has grown.
    folder = Path(logs.path) if logs.is_local else Path(tempfile.mkdtemp(prefix="raydistill-"))
    folder.mkdir(parents=True, exist_ok=True)
    # SummaryWriter hands events to a thread and can lose the last ones; this writes at once.
    writer = EventsWriter(str(folder / "events"))

    def send(point: Point) -> None:
        shown = [summary.scalar(metric, value) for metric, value in scalars(point).items()]
        if "preview" in point:
            picture = np.asarray(Image.open(BytesIO(logs.read_bytes(point["preview"]))))
            shown.append(summary.image("preview", picture, dataformats="HW"))
        for one in shown:
            writer.write_event(Event(step=point["step"], wall_time=time.time(), summary=one))
        writer.flush()
        if not logs.is_local:
            logs.upload(folder)

    return send


def _wandb(arguments: Mapping[str, Any], name: str) -> Sink:
    import wandb

    run = wandb.init(**{"name": name, **arguments})
    return lambda point: run.log(scalars(point), step=point["step"])


def _mlflow(arguments: Mapping[str, Any], name: str) -> Sink:
    import mlflow

    if "tracking_uri" in arguments:
        mlflow.set_tracking_uri(arguments["tracking_uri"])
    if "experiment_name" in arguments:
        mlflow.set_experiment(arguments["experiment_name"])
    mlflow.start_run(run_name=name)
    return lambda point: mlflow.log_metrics(scalars(point), step=point["step"])
