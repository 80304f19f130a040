"""Bytes of model state that a worker holds: torch's DDP against ZeRO 1 to 3, counted in real workers.

Counted are the storages of tensors, each once, right after a backward pass. Buffers of collectives aren't: DDP's
buckets and ZeRO's come and go, and their sizes are settings.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.training import DiffusionConfig, OptimizerConfig
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.distributed.engine import Engine
from raydistill.distributed.stream import Parts

DDP = "DDP, fp32"
CASES = {
    DDP: None,
    **{f"ZeRO-{stage}, {precision}": (stage, precision) for precision in ("fp32", "bf16") for stage in (1, 2, 3)},
}
STATE = ("parameters", "gradients", "masters", "optimizer")
KINDS = (*STATE, "average")
HOW = OptimizerConfig(steps=10, batch_size=4, lr=1e-4)

Counts = Mapping[str, float]
Held = Mapping[str, Iterable[Tensor]]


def formula(case: str, workers: int) -> float:
    """Bytes a parameter (Rajbhandari et al., arXiv 1910.02054, section 3 and figure 1).

    With half precision K = 12: float32 master and Adam's two moments. In float32 there is no master: 4 + 4, K = 8.
    """
    stage, precision = CASES[case] or (0, "fp32")
    weights, gradients, rest = (2, 2, 12) if precision == "bf16" else (4, 4, 8)
    cut = [workers if stage >= least else 1 for least in (3, 2, 1)]
    return weights / cut[0] + gradients / cut[1] + rest / cut[2]


def bytes_a_parameter(initial: Path, config: DiffusionConfig, workers: int) -> dict[str, Counts]:
    """Count in a group of workers; what the worker with most holds, by case and kind."""
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            _measure_all,
            train_loop_config={"objective": DiffusionObjective(initial, config, 0), "folder": folder},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray_train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
            run_config=ray_train.RunConfig(storage_path=folder),
        ).fit()
        seen = [json.loads(file.read_text()) for file in Path(folder).glob("rank-*.json")]
    return {case: {kind: max(rank[case][kind] for rank in seen) for kind in KINDS} for case in CASES}


def total(counts: Counts) -> float:
    """What formulas speak of: all but the moving average."""
    return sum(counts[kind] for kind in STATE)


def _measure_all(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    rank = ray_train.get_context().get_world_rank()
    counts = {case: _measure(config["objective"], how) for case, how in CASES.items()}
    (Path(config["folder"]) / f"rank-{rank}.json").write_text(json.dumps(counts))


def _measure(objective: DiffusionObjective, how: tuple[int, str] | None) -> Counts:
    """Take a step, so that the optimizer has its state, and count after the next backward pass."""
    module = objective.build()
    size = sum(parameter.numel() for parameter in module.parameters())
    context = ray_train.get_context()
    part = Parts(HOW.batch_size, context.get_world_size(), 1).part(context.get_world_rank())
    words = np.repeat(objective.empty[None], part.stop - part.start, axis=0)
    rows = {"latents": np.zeros((len(words), 4, 8, 8), np.float16), "words": words}
    held = _ddp if how is None else _zero(*how)
    return _counted(held(module, lambda model, step: objective.loss(model, step, part, rows)), size)


def _ddp(module: nn.Module, loss: Callable[[nn.Module, int], Tensor]) -> Held:
    model, optimizer = DistributedDataParallel(module), torch.optim.AdamW(module.parameters(), lr=HOW.lr)
    loss(model, 0).backward()
    optimizer.step()
    optimizer.zero_grad()
    loss(model, 1).backward()
    parameters = list(module.parameters())
    return {
        "parameters": parameters,
        "gradients": [parameter.grad for parameter in parameters],
        "optimizer": _tensors(optimizer.state.values()),
    }


def _zero(stage: int, precision: str) -> Callable[..., Held]:
    def held(module: nn.Module, loss: Callable[[nn.Module, int], Tensor]) -> Held:
        parts = Parts(HOW.batch_size, torch.distributed.get_world_size(), 1)
        engine = Engine(module, HOW, DeepSpeedConfig(zero_stage=stage, precision=precision), parts, 0.99, None)
        engine.learn(iter([loss(engine.wrapped, 0)]))
        engine.wrapped.backward(loss(engine.wrapped, 1))
        parameters, cut = list(engine.module.parameters()), engine.wrapped.optimizer
        return {
            "parameters": [*parameters, *_tensors(getattr(parameter, "ds_tensor", None) for parameter in parameters)],
            "gradients": _tensors(
                [
                    [parameter.grad for parameter in parameters],
                    cut.averaged_gradients,
                    getattr(cut, "all_grad_tensors", ()),
                ]
            ),
            "masters": [piece.flat for piece in engine.pieces],
            "optimizer": _tensors(engine.basic.state.values()),
            "average": engine.average.shadow_params,
        }

    return held


def _tensors(nested: Any) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, Mapping):
        yield from _tensors(nested.values())
    elif isinstance(nested, Iterable):
        for inner in nested:
            yield from _tensors(inner)


def _counted(held: Held, size: int) -> Counts:
    """Bytes a parameter by kind; a storage that several kinds share counts for the first."""
    seen: set[int] = set()
    counts = dict.fromkeys(KINDS, 0.0)
    for kind in KINDS:
        for tensor in held.get(kind, ()):
            storage = tensor.untyped_storage()
            if storage.nbytes() and storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                counts[kind] += storage.nbytes() / size
    return counts
