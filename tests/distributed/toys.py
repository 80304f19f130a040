"""Small real things for the distributed tests, importable by workers."""

import os
import signal
import time
from pathlib import Path

import torch

from raydistill.core.store import Store


class Line:
    """Fit y = 3x + 1; optionally, the worker kills itself once at a step."""

    def __init__(self, seed: int = 0, die_at: int | None = None, scar: str | None = None, nan_at: int | None = None):
        self.seed, self.die_at, self.scar, self.nan_at = seed, die_at, scar, nan_at

    def build(self):
        torch.manual_seed(self.seed)
        return torch.nn.Linear(1, 1)

    def loss(self, model, step, part):
        if step == self.die_at and not Path(self.scar).exists():
            Path(self.scar).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.randn(8, 1, generator=torch.Generator().manual_seed(step))[part]
        loss = ((model(x) - (3 * x + 1)) ** 2).mean()
        return loss * float("nan") if step == self.nan_at else loss

    def export(self, model, folder):
        (folder / "line.txt").write_text(f"{model.weight.item()} {model.bias.item()}")


class WriteShard:
    """Write the shard's name; fail on one name."""

    def __init__(self, out: Store, bad: str = ""):
        self.out, self.bad = out, bad

    def __call__(self, name):
        if name == self.bad:
            raise ValueError(f"can't make {name}")
        self.out.write_bytes(name, str(os.getpid()).encode())
        return 1


def bowl(setting, shared, seconds=0.0, log=None):
    """Highest at `shared`; takes its time, and writes a line into a log when it has the result."""
    time.sleep(seconds)
    if log:
        with open(log, "a") as lines:
            lines.write(f"{setting['x']:.6f}\n")
    return {"x": setting["x"], "objective": -((setting["x"] - shared) ** 2)}
