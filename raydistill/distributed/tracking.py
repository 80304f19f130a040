"""What people watch of a training: TensorBoard, Weights & Biases, MLflow and Ray's own metrics, through one callback.

Workers hand over points, `{"step": …, "loss": …}`, with their reports; the callback lives beside Ray Train's
controller and passes them on. A point's `preview` names a PNG below the logs.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ray.train import UserCallback

from raydistill.core.scratch import temporary_folder
from raydistill.core.store import Store
from raydistill.core.training import TrackingConfig

Point = Mapping[str, Any]
Picture = NDArray[np.uint8] | None

logger = logging.getLogger(__name__)

WANDB, MLFLOW = "Weights & Biases", "MLflow"
OUTSIDE = (WANDB, MLFLOW)
"""Services that may be somebody else's: they get pictures only when told so."""

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


@dataclass(frozen=True)
class Sink:
    """Somewhere that points go: `send` takes a point and its picture, if it has one, `close` comes last."""

    send: Callable[[Point, Picture], None]
    close: Callable[[], None] = lambda: None


class Tracking(UserCallback):  # type: ignore[misc]
    """Passes every point on to what the configuration names. Built where it runs: connections don't travel.

    A service that fails is said in Ray's log and asked again with the next point: a training doesn't end for it.

    Args:
        config: which services.
        logs: the folder for TensorBoard's files and where previews are; its name tells a training from others.
        name: of the training, such as `teacher`.
    """

    def __init__(self, config: TrackingConfig, logs: Store, name: str) -> None:
        """Connect at the first point."""
        self.config, self.logs, self.name = config, logs, name
        self.sinks: dict[str, Sink] = {}

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Pass on the points of the first worker."""
        for name, connect in self._services().items():
            try:
                if name not in self.sinks:
                    self.sinks[name] = connect()
                for point in metrics[0].get("points", ()):
                    self.sinks[name].send(point, self._picture(point, name))
                if metrics[0].get("is_last"):
                    self.sinks[name].close()
            except Exception as error:  # noqa: BLE001 (whatever a service's library raises)
                logger.warning("%s of %s wasn't told how the training goes: %s", name, self.name, error)

    def _services(self) -> dict[str, Callable[[], Sink]]:
        training = f"{self.name}-{PurePosixPath(self.logs.path).name}"
        services: dict[str, Callable[[], Sink]] = {"Ray's metrics": partial(_ray_metrics, self.name)}
        if self.config.tensorboard:
            services["TensorBoard"] = partial(_tensorboard, self.logs)
        if self.config.wandb is not None:
            services[WANDB] = partial(_wandb, self.config.wandb, self.name, training)
        if self.config.mlflow is not None:
            services[MLFLOW] = partial(_mlflow, self.config.mlflow, self.name, training)
        return services

    def _picture(self, point: Point, service: str) -> Picture:
        if "preview" not in point or (service in OUTSIDE and not self.config.pictures):
            return None
        return np.asarray(Image.open(BytesIO(self.logs.read_bytes(point["preview"]))))


def scalars(point: Point) -> dict[str, float]:
    """What of a point is a number to plot."""
    return {name: float(point[name]) for name in METRICS if point.get(name) is not None}


def _ray_metrics(name: str) -> Sink:
    from ray.util.metrics import Gauge

    gauges = {metric: Gauge(f"raydistill_train_{metric}", said, ("training",)) for metric, said in METRICS.items()}

    def send(point: Point, _: Picture) -> None:
        for metric, value in scalars(point).items():
            gauges[metric].set(value, {"training": name})

    return Sink(send)


def _tensorboard(logs: Store) -> Sink:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event

    # An event file grows; an object store can't append, so it is written here and copied when it has grown.
    here = None if logs.is_local else temporary_folder()
    folder = Path(here.name if here else logs.path)
    folder.mkdir(parents=True, exist_ok=True)
    # SummaryWriter hands events to a thread and can lose the last ones; this writes at once.
    writer = EventsWriter(str(folder / "events"))

    def send(point: Point, picture: Picture) -> None:
        shown = [summary.scalar(metric, value) for metric, value in scalars(point).items()]
        if picture is not None:
            shown.append(summary.image("preview", picture, dataformats="HW"))
        for one in shown:
            writer.write_event(Event(step=point["step"], wall_time=time.time(), summary=one))
        writer.flush()
        if here:
            logs.upload(here.name)

    return Sink(send)


def _wandb(arguments: Mapping[str, Any], name: str, training: str) -> Sink:
    import wandb

    # The same id again goes on with a run: a driver may have been lost.
    run = wandb.init(**{"name": name, "id": training, "resume": "allow", **arguments})

    def send(point: Point, picture: Picture) -> None:
        shown = {} if picture is None else {"preview": wandb.Image(picture)}
        run.log(scalars(point) | shown, step=point["step"])

    return Sink(send, run.finish)


def _mlflow(arguments: Mapping[str, Any], name: str, training: str) -> Sink:
    import mlflow

    if "tracking_uri" in arguments:
        mlflow.set_tracking_uri(arguments["tracking_uri"])
    if "experiment_name" in arguments:
        mlflow.set_experiment(arguments["experiment_name"])
    known = mlflow.search_runs(filter_string=f"tags.raydistill = '{training}'", output_format="list")
    if known:
        mlflow.start_run(run_id=known[0].info.run_id)
    else:
        mlflow.start_run(run_name=name, tags={"raydistill": training})

    def send(point: Point, picture: Picture) -> None:
        mlflow.log_metrics(scalars(point), step=point["step"])
        if picture is not None:
            mlflow.log_image(picture, point["preview"])

    return Sink(send, mlflow.end_run)
