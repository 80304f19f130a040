"""A search for TensorBoard's HParams view: a folder a trial, with what it set and what that came to."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.core.scratch import temporary_folder
from raydistill.core.store import Store


def write_hparams(
    logs: Store, trials: Sequence[Mapping[str, Any]], settings: Sequence[str], measured: Sequence[str]
) -> None:
    """Write `trial-<number>/events…` for every trial.

    Args:
        logs: where TensorBoard looks.
        trials: with settings and what was measured, numbers; what couldn't be measured (NaN) is left out.
        settings: names of what a trial sets.
        measured: names of what it measures.
    """
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event

    with temporary_folder() as here:
        for number, trial in enumerate(trials):
            folder = Path(here, f"trial-{number:04d}")
            folder.mkdir()
            # What a killed attempt has written would be shown beside it.
            (logs / folder.name).delete()
            # SummaryWriter hands events to a thread and can lose the last ones; this writes at once.
            writer = EventsWriter(str(folder / "events"))
            known = {name: float(trial[name]) for name in measured if math.isfinite(trial[name])}
            said = [*summary.hparams({name: float(trial[name]) for name in settings}, known)]
            said += [summary.scalar(name, value) for name, value in known.items()]
            for one in said:
                writer.write_event(Event(step=0, wall_time=time.time(), summary=one))
            writer.close()
        logs.upload(here)
