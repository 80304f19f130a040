"""Small real things for the distributed tests, importable by workers."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch


class Line:
    """Fit y = 3x + 1; optionally, a step's loss isn't a number."""

    def __init__(self, seed=0, nan_at=None, log=None):
        self.seed, self.nan_at, self.log = seed, nan_at, log

    def build(self):
        torch.manual_seed(self.seed)
        return torch.nn.Linear(1, 1)

    def loss(self, model, step, part, rows):
        if self.log:
            with open(self.log, "a") as lines:
                lines.write(f"{step} \n")
        x = torch.randn(8, 1, generator=torch.Generator().manual_seed(step))[part]
        loss = ((model(x) - (3 * x + 1)) ** 2).mean()
        return loss * float("nan") if step == self.nan_at else loss

    def export(self, model, folder):
        (folder / "line.txt").write_text(f"{model.weight.item()} {model.bias.item()}")


class Curve:
    """Fit a curve with a network of odd sizes, with a frozen layer and dropout on demand.

    Args:
        batch: rows of the global batch.
        dropout: of the middle layer.
        grow: factor on the loss from step 20 on, to make it explode.
        die_at: step at which the worker of rank 0 kills itself, once: then `scar` is there.
        pause: seconds a step takes at least.
    """

    def __init__(self, batch=12, dropout=0.0, grow=1.0, die_at=None, scar=None, pause=0.0, log=None):
        self.batch, self.dropout, self.grow = batch, dropout, grow
        self.die_at, self.scar, self.pause, self.log = die_at, scar, pause, log

    def build(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            frozen = torch.nn.Linear(3, 7)
            frozen.requires_grad_(False)
            layers = [frozen, torch.nn.Tanh(), torch.nn.Linear(7, 11), torch.nn.LayerNorm(11)]
            return torch.nn.Sequential(*layers, torch.nn.Dropout(self.dropout), torch.nn.GELU(), torch.nn.Linear(11, 1))

    def loss(self, model, step, part, rows):
        self.live(step, part)
        x = torch.randn(self.batch, 3, generator=torch.Generator().manual_seed(abs(step)))[part]
        y = x.prod(dim=1, keepdim=True) + x.sum(dim=1, keepdim=True)
        like = next(model.parameters())
        got = model(x.to(like)).float()
        return ((got - y.to(got)) ** 2).mean() * (self.grow if step >= 20 else 1.0)

    def live(self, step, part):
        """Take time, leave a trace, and die when it is due."""
        time.sleep(self.pause)
        if self.log:
            with open(self.log, "a") as lines:
                lines.write(f"{step} {part.start} {part.stop}\n")
        if step == self.die_at and not Path(self.scar).exists():
            Path(self.scar).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def export(self, model, folder):
        np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})


class Rows(Curve):
    """The same curve from rows of a stream."""

    def loss(self, model, step, part, rows):
        self.live(step, part)
        x = torch.from_numpy(rows["x"].astype(np.float32))
        assert len(x) == part.stop - part.start
        y = x.prod(dim=1, keepdim=True) + x.sum(dim=1, keepdim=True)
        return ((model(x) - y) ** 2).mean()


def read_rows(name):
    """Ten rows of a shard; `i` numbers all rows."""
    rng = np.random.default_rng(int(name))
    return {"x": rng.normal(size=(10, 3)).astype(np.float16), "i": np.arange(10) + 10 * int(name)}


class Numbers:
    """Give the numbers of a piece's rows, with a line in a log; one of them may be bad, or deadly, or that once."""

    def __init__(self, log: str, bad: int | None = None, deadly: int | None = None, once: bool = False):
        self.log, self.bad, self.deadly, self.once = Path(log), bad, deadly, once

    def __call__(self, piece):
        numbers = range(piece.first, piece.first + piece.rows)
        if self.bad in numbers:
            raise ValueError(f"{self.bad} is bad\nand so is the rest")
        died = self.log.with_suffix(".died")
        if self.deadly in numbers and not (self.once and died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as lines:
            lines.write(f"{piece.first} {piece.rows}\n")
        return [pa.table({"number": pa.array(numbers, pa.int64())})]


class Slow(Numbers):
    """Takes its time, and says in the log which process it is."""

    def __call__(self, piece):
        time.sleep(0.5)
        with self.log.open("a") as lines:
            lines.write(f"{os.getpid()} 0\n")
        return super().__call__(piece)


class Faulty(Numbers):
    """Meets a fault of its device where another would die."""

    def __call__(self, piece):
        died = self.log.with_suffix(".died")
        if self.deadly in range(piece.first, piece.first + piece.rows) and not (self.once and died.exists()):
            died.touch()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nand more")
        return super().__call__(piece)


class Part:
    """Adds to a number."""

    def __init__(self, first: int):
        self.first = first

    def add(self, number: int) -> int:
        return self.first + number

    def pid(self) -> int:
        return os.getpid()


def bowl(setting, shared, seconds=0.0, uneven=0.0, log=None):
    """Highest at `shared`; takes its time, some settings longer, and writes a line when it has the result."""
    time.sleep(seconds + uneven * setting["x"])
    if log:
        with open(log, "a") as lines:
            lines.write(f"{setting['x']:.6f}\n")
    return {"x": setting["x"], "objective": -((setting["x"] - shared) ** 2), "constraints": {}}


def fragile(setting, shared, log, deaths=1):
    """Kills its worker so many times, the first trial that comes."""
    with open(log, "a") as lines:
        lines.write("tried\n")
    if len(Path(log).read_text().splitlines()) <= deaths:
        os._exit(1)
    return {"x": setting["x"], "objective": shared, "constraints": {}}


def slope(setting, shared):
    """Rises with `x`, but only up to `shared` is it allowed; what it costs is `x` itself, and `n` nothing."""
    x, n = setting.get("x", 0.5), setting.get("n", 1)
    return {"x": x, "n": n, "objective": x, "cost": x, "constraints": {"x": x - shared}}
