"""Training jobs of the tests, and the plain PyTorch loop that they are held against."""

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import OptimizerConfig
from raydistill.distributed.job import TrainJob
from tests.distributed.toys import Curve

STEPS, CLIP, DECAY = 30, 0.5, 0.9


def options(batch=12, steps=STEPS, **more):
    return OptimizerConfig(
        **{"steps": steps, "batch_size": batch, "lr": 0.02, "warmup_steps": 4, "checkpoint_every": 10} | more
    )


def curve_job(folder, workers=1, make=Curve, optimizer=None, ema=DECAY, gpus=0, **deepspeed):
    """A training of a curve; more keywords are DeepSpeed's."""
    store, more = Store.open(str(folder)), deepspeed.pop("more", {})
    return TrainJob(
        make_objective=make,
        optimizer=optimizer or options(),
        deepspeed=DeepSpeedConfig(**{"gradient_clipping": CLIP} | deepspeed),
        compute=Compute(num_workers=workers, num_gpus=gpus),
        ema_decay=ema,
        out=store / "out",
        weights="model",
        work=store / "work",
        **more,
    )


def weights(folder):
    with np.load(folder / "out/model/weights.npz") as saved:
        return {name: saved[name] for name in saved.files}


def losses(history):
    return np.array([loss for _, loss in history["loss"]])


def plain(objective=None, how=None, until=None):
    """Losses and averaged weights of the same training without any engine."""
    objective, how = objective or Curve(), how or options()
    model = objective.build()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=how.lr, weight_decay=how.weight_decay)
    schedule = get_scheduler(how.schedule, optimizer, num_warmup_steps=how.warmup, num_training_steps=how.steps)
    average, seen = EMAModel(learning, decay=DECAY, use_ema_warmup=True), []
    for step in range(until or how.steps):
        loss = objective.loss(model, step, slice(0, how.batch_size), {})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, CLIP)
        optimizer.step()
        schedule.step()
        average.step(learning)
        seen.append(loss.item())
    average.copy_to(learning)
    return np.array(seen), {name: value.numpy() for name, value in model.state_dict().items()}
