"""DeepSpeed behind one door: a module in training with its optimizer, schedule and moving average.

ZeRO cuts the float32 master of the weights, and what the optimizer and the moving average keep of it, among the
workers; `pieces` finds the parts and `checkpoint` puts them together.
"""

import json
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.training import OptimizerConfig
from raydistill.distributed.checkpoint import (
    AVERAGE,
    BUFFERS,
    FACTS,
    STATE,
    WEIGHTS,
    Saved,
    buffers_of,
    facts,
    read_whole,
    take_up,
)
from raydistill.distributed.pieces import MOMENTS, Piece, pieces_of, scaler_of
from raydistill.distributed.settings import settings
from raydistill.distributed.stream import Parts


class Engine:
    """A module in training: DeepSpeed's engine, AdamW, a schedule and a moving average, saved and restored together.

    Args:
        module: what to train; the same on every worker.
        optimizer: learning rate, schedule, length.
        deepspeed: ZeRO stage, precision, accumulation.
        parts: how a batch is cut among the workers.
        ema_decay: of the moving average of the weights; None keeps none.
        checkpoint: folder to go on from; None starts anew.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: OptimizerConfig,
        deepspeed: DeepSpeedConfig,
        parts: Parts,
        ema_decay: float | None,
        checkpoint: Path | None,
    ) -> None:
        """Restore, then hand the module over to DeepSpeed."""
        if checkpoint:
            # Before DeepSpeed sees it: what it makes of the weights, cut or rounded, is then right too.
            take_up(module, read_whole(checkpoint, WEIGHTS, module))
        elements = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        self.wrapped = _initialise(module, optimizer, settings(deepspeed, parts, elements))
        self.module: nn.Module = self.wrapped.module
        self.basic: torch.optim.Optimizer = self.wrapped.basic_optimizer
        self.pieces = list(pieces_of(self.wrapped))
        self.held = [nn.Parameter(piece.values) for piece in self.pieces]
        self.average = _moving_average(self.held, ema_decay)
        # Torch's own optimizer, which DeepSpeed steps as it is without ZeRO in float32, doesn't.
        self.counts_norm = self.wrapped.optimizer is self.basic
        self.norm: Tensor | None = None
        if checkpoint:
            self._restore(checkpoint)

    def learn(self, losses: Iterator[Tensor]) -> Tensor:
        """Take one step of the optimizer from the losses of this worker's micro-batches, each backwards in its turn.

        Returns:
            Their mean, detached.
        """
        seen = []
        for loss in losses:
            self.wrapped.backward(loss)
            if self.counts_norm and self.wrapped.is_gradient_accumulation_boundary():
                self.norm = nn.utils.get_total_norm([p.grad for p in self.module.parameters() if p.grad is not None])
            self.wrapped.step()
            seen.append(loss.detach())
        if self.average is not None:
            self.average.step(self.held)
        return torch.stack(seen).mean()

    def is_finite(self) -> bool:
        """Whether all weights that this worker holds are numbers."""
        return all(bool(torch.isfinite(piece.values).all()) for piece in self.pieces)

    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.basic.param_groups[0]["lr"])

    def gradient_norm(self) -> float | None:
        """L2 norm of the last step's gradient before clipping; None where DeepSpeed was told not to compute it."""
        norm = self.norm if self.counts_norm else self.wrapped.get_global_grad_norm()
        return None if norm is None else float(norm)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return torch.device(self.wrapped.device)

    def memory_gib(self) -> float:
        """The most memory that this worker has held: of its GPU, or of the process where it computes on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write this worker's pieces, and from the first worker what all share.

        Args:
            folder: the worker's own, to be merged with the others'.
            facts: JSON; `facts` reads them back.
        """
        tensors, starts = {}, {}
        for name, start, tensor in self._state():
            tensors[name], starts[name] = tensor.contiguous().cpu(), str(start)
        save_file(tensors, folder / STATE.format(self.wrapped.global_rank), metadata=starts)
        if self.wrapped.global_rank == 0:
            save_file(buffers_of(self.module), folder / BUFFERS)
            ours = {"workers": self.wrapped.world_size, "engine": self._counters()}
            (folder / FACTS).write_text(json.dumps({**facts, **ours}))

    def _state(self) -> Iterator[tuple[str, int, Tensor]]:
        """Name, first element and values of each piece of each kind that this worker is to write."""
        workers, rank = self.wrapped.world_size, self.wrapped.global_rank
        shadows = self.average.shadow_params if self.average is not None else [None] * len(self.pieces)
        replicated = self.wrapped.zero_optimization_stage() == 0
        for number, (piece, shadow) in enumerate(zip(self.pieces, shadows, strict=True)):
            if replicated and number % workers != rank:
                continue
            kinds = {WEIGHTS: piece.values} | {kind: piece.moment(self.basic, kind) for kind in MOMENTS}
            for kind, tensor in (kinds | ({} if shadow is None else {AVERAGE: shadow})).items():
                yield f"{kind}/{piece.name}", piece.start, tensor

    def _counters(self) -> dict[str, Any]:
        scaler = scaler_of(self.wrapped.optimizer)
        return {
            "steps": max((float(state["step"]) for state in self.basic.state.values() if "step" in state), default=0.0),
            "average_steps": self.average.optimization_step if self.average is not None else 0,
            "schedule": self.wrapped.lr_scheduler.state_dict(),
            "scaler": {k: v for k, v in vars(scaler).items() if isinstance(v, int | float)} if scaler else {},
        }

    def _restore(self, folder: Path) -> None:
        counters = facts(folder)["engine"]
        shadows = self.average.shadow_params if self.average is not None else [None] * len(self.pieces)
        with Saved(folder) as saved:
            for piece, shadow in zip(self.pieces, shadows, strict=True):
                saved.fill(WEIGHTS, piece, piece.values)
                for kind in MOMENTS:
                    saved.fill(kind, piece, piece.moment(self.basic, kind))
                if shadow is not None:
                    saved.fill(AVERAGE, piece, shadow)
        for state in self.basic.state.values():
            state["step"].fill_(counters["steps"])
        self.wrapped.lr_scheduler.load_state_dict(counters["schedule"])
        for group, rate in zip(self.basic.param_groups, counters["schedule"]["_last_lr"], strict=True):
            group["lr"] = rate
        if self.average is not None:
            self.average.optimization_step = counters["average_steps"]
        if scaler := scaler_of(self.wrapped.optimizer):
            vars(scaler).update(counters["scaler"])

    def trained(self) -> dict[str, Tensor]:
        """Gather what was trained, averaged where there is a moving average: name to float32 tensor, with buffers.

        Every worker must call it; the first gets all of it, on the CPU, the others the buffers.
        """
        shapes = {name: getattr(p, "ds_shape", p.shape) for name, p in self.module.named_parameters()}
        parts = self.average.shadow_params if self.average is not None else [piece.values for piece in self.pieces]
        whole: dict[str, Tensor] = {}
        here = {piece.name: (piece, part) for piece, part in zip(self.pieces, parts, strict=True)}
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                values = self._gathered(torch.Size(shapes[name]), *here.get(name, (None, None)))
                if self.wrapped.global_rank == 0:
                    whole[name] = values.cpu()
        return whole | buffers_of(self.module)

    def _gathered(self, shape: torch.Size, piece: Piece | None, part: Tensor | None) -> Tensor:
        buffer = torch.zeros(shape.numel(), device=self.wrapped.device)
        if piece is not None and part is not None:
            buffer[piece.start : piece.start + piece.length] = part.detach().to(buffer.device)
        if self.wrapped.zero_optimization_stage() > 0 and self.wrapped.world_size > 1:
            torch.distributed.all_reduce(buffer)
        return buffer.view(shape)


def _initialise(module: nn.Module, options: OptimizerConfig, configuration: dict[str, Any]) -> Any:
    import deepspeed
    from diffusers.optimization import get_scheduler

    # Only tensor-parallel inference uses this op, and building it needs a C++ compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("ERROR")
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=options.lr, weight_decay=options.weight_decay)
    schedule = get_scheduler(
        options.schedule, optimizer, num_warmup_steps=options.warmup, num_training_steps=options.steps
    )
    wrapped, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, lr_scheduler=schedule, dist_init_required=False, config=configuration
    )
    return wrapped


def _moving_average(held: list[nn.Parameter], decay: float | None) -> Any:
    from diffusers.training_utils import EMAModel

    return EMAModel(held, decay=decay, use_ema_warmup=True, foreach=True) if decay else None
