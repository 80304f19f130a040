"""DeepSpeed behind one door: its configuration, the pieces of state a worker holds, a checkpoint of no world size.

ZeRO cuts the float32 master of the weights, and what the optimizer and the moving average keep of it, among the
workers. A `Piece` says which part of which parameter is here. A checkpoint is every worker's pieces by name and
place, in safetensors: it can be taken up by any number of workers and by any ZeRO stage.
"""

import json
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.errors import ConfigError
from raydistill.core.training import OptimizerConfig
from raydistill.distributed.stream import Parts

WEIGHTS, AVERAGE, MOMENTS = "weights", "average", ("exp_avg", "exp_avg_sq")
"""Kinds of state: the weights, their moving average, and AdamW's two moments by torch's names."""

STATE, FACTS = "state-{:05d}.safetensors", "facts.json"

BUCKET = 500_000_000
"""Most elements of gradients that workers exchange at a time; DeepSpeed's default."""


@dataclass(frozen=True)
class Piece:
    """The part of one parameter's float32 master that this worker holds: `values` from element `start` on.

    `values` is a view of elements `offset`, … of `flat`, the tensor that the optimizer itself steps.
    """

    name: str
    start: int
    flat: Tensor
    offset: int
    length: int

    @property
    def values(self) -> Tensor:
        """(length,) float32, a view."""
        values: Tensor = self.flat.detach().view(-1).narrow(0, self.offset, self.length)
        return values

    def moment(self, optimizer: torch.optim.Optimizer, kind: str) -> Tensor:
        """(length,) float32, a view of one of the optimizer's moments; they start as zeros."""
        state = optimizer.state[self.flat]
        if kind not in state:
            state |= {"step": torch.tensor(0.0)} | {name: torch.zeros_like(self.flat) for name in MOMENTS}
        moment: Tensor = state[kind].view(-1).narrow(0, self.offset, self.length)
        return moment


def settings(options: DeepSpeedConfig, parts: Parts, elements: int) -> dict[str, Any]:
    """Return DeepSpeed's own configuration.

    Args:
        options: `override` is laid over everything else, key by key.
        parts: how a batch is cut among the workers.
        elements: of all parameters that learn.
    """
    zero: dict[str, Any] = {
        "stage": options.zero_stage,
        # Gradients are gathered in one buffer for the others to read; a worker alone would copy them for nothing.
        "contiguous_gradients": parts.workers > 1,
        # Of that buffer, which is made whole at every step: no larger than what there is to gather.
        "reduce_bucket_size": max(1, min(BUCKET, elements)),
    }
    if options.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    ours = {
        "train_micro_batch_size_per_gpu": parts.width,
        "gradient_accumulation_steps": parts.accumulation,
        "gradient_clipping": options.gradient_clipping,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's own CPU optimizer needs a compiler on every node; torch's doesn't.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": options.precision == "bf16"},
        "fp16": {"enabled": options.precision == "fp16"},
    }
    return _laid_over(ours, options.override)


def check_settings(configuration: dict[str, Any]) -> None:
    """Let DeepSpeed read its configuration before any worker does.

    Raises:
        ConfigError: with the first thing it doesn't take.
    """
    from deepspeed.runtime.config import DeepSpeedConfig as Theirs
    from deepspeed.utils import logger
    from pydantic import ValidationError

    logger.setLevel("ERROR")
    try:
        Theirs(configuration)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"deepspeed.override: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except Exception as error:  # whatever a wrong type makes it raise
        raise ConfigError(f"deepspeed.override: {str(error).splitlines()[0]}") from error


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: _laid_over(base[k], v) for k, v in over.items() if isinstance(v, Mapping) and k in base}
    return {**base, **over, **inner}


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
            take_up(module, _read_whole(checkpoint, WEIGHTS, module))
        elements = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        self.wrapped = _initialise(module, optimizer, settings(deepspeed, parts, elements))
        self.module: nn.Module = self.wrapped.module
        self.basic: torch.optim.Optimizer = self.wrapped.basic_optimizer
        self.pieces = list(_pieces(self.wrapped))
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
            save_file(_buffers(self.module), folder / "buffers.safetensors")
            (folder / FACTS).write_text(json.dumps({**facts, "engine": self._counters()}))

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
        scaler = _scaler(self.wrapped.optimizer)
        return {
            "steps": max((float(state["step"]) for state in self.basic.state.values() if "step" in state), default=0.0),
            "average_steps": self.average.optimization_step if self.average is not None else 0,
            "schedule": self.wrapped.lr_scheduler.state_dict(),
            "scaler": {k: v for k, v in vars(scaler).items() if isinstance(v, int | float)} if scaler else {},
        }

    def _restore(self, folder: Path) -> None:
        counters = facts(folder)["engine"]
        shadows = self.average.shadow_params if self.average is not None else [None] * len(self.pieces)
        with _Saved(folder) as saved:
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
        if scaler := _scaler(self.wrapped.optimizer):
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
        return whole | _buffers(self.module)

    def _gathered(self, shape: torch.Size, piece: Piece | None, part: Tensor | None) -> Tensor:
        buffer = torch.zeros(shape.numel(), device=self.wrapped.device)
        if piece is not None and part is not None:
            buffer[piece.start : piece.start + piece.length] = part.detach().to(buffer.device)
        if self.wrapped.zero_optimization_stage() > 0 and self.wrapped.world_size > 1:
            torch.distributed.all_reduce(buffer)
        return buffer.view(shape)


def take_up(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load trained parameters and buffers by name; what doesn't learn stays as it is.

    Raises:
        RuntimeError: when there is something that the module doesn't have, or something that learns is missing.
    """
    found = module.load_state_dict(state, strict=False)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    if strange := [*found.unexpected_keys, *sorted(learning & set(found.missing_keys))]:
        raise RuntimeError(f"weights don't fit the module: {', '.join(strange[:3])}")


def facts(folder: Path) -> dict[str, Any]:
    """Read what `Engine.save` was told."""
    return dict(json.loads((folder / FACTS).read_text()))


class _Saved:
    """The state files of a checkpoint, open, whichever workers wrote them."""

    def __init__(self, folder: Path) -> None:
        self.files: list[Any] = [safe_open(path, "pt") for path in sorted(folder.glob("state-*.safetensors"))]
        self.places: dict[str, list[tuple[int, int, Any]]] = {}
        for file in self.files:
            starts = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                start = int(starts[name])
                self.places.setdefault(name, []).append((start, file.get_slice(name).get_shape()[0], file))

    def __enter__(self) -> "_Saved":
        return self

    def __exit__(self, *_: object) -> None:
        self.files.clear()
        self.places.clear()

    def fill(self, kind: str, piece: Piece, target: Tensor) -> None:
        """Copy the part of a saved tensor that a piece is, into (length,) `target`.

        Raises:
            RuntimeError: when elements are missing.
        """
        name, end = f"{kind}/{piece.name}", piece.start + piece.length
        found = 0
        for start, length, file in self.places.get(name, ()):
            first, last = max(start, piece.start), min(start + length, end)
            if first < last:
                values = file.get_slice(name)[first - start : last - start]
                target.data[first - piece.start : last - piece.start].copy_(values)
                found += last - first
        if found != piece.length:
            raise RuntimeError(f"a checkpoint holds {found} of the {piece.length} elements of {name} that are due")


def checkpointed(folder: Path, module: nn.Module) -> dict[str, Tensor]:
    """Read what was trained as of a checkpoint, averaged where it has a moving average, as `Engine.trained` gives it.

    Args:
        folder: the checkpoint, of any number of workers and any ZeRO stage.
        module: the plain module that was trained.
    """
    return _read_whole(folder, AVERAGE if facts(folder)["engine"]["average_steps"] else WEIGHTS, module)


def _read_whole(folder: Path, kind: str, module: nn.Module) -> dict[str, Tensor]:
    """Assemble the tensors of one kind, and the buffers, for a module that isn't cut yet."""
    whole = {}
    with _Saved(folder) as saved:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                flat = torch.zeros(parameter.numel())
                saved.fill(kind, Piece(name, 0, flat, 0, flat.numel()), flat)
                whole[name] = flat.view(parameter.shape)
    with safe_open(folder / "buffers.safetensors", "pt") as file:
        return whole | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that are part of a module's state, such as the running statistics of a batch normalisation."""
    kept = set(module.state_dict())
    return {name: buffer.detach().cpu().contiguous() for name, buffer in module.named_buffers() if name in kept}


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


def _pieces(engine: Any) -> Iterator[Piece]:
    """Find what DeepSpeed holds here of each parameter that learns; the attributes are those of DeepSpeed 0.19."""
    stage, rank = engine.zero_optimization_stage(), engine.global_rank
    masters = {} if stage else _masters(engine.optimizer)
    # Gradients in float32 of weights in bfloat16 (`data_types.grad_accum_dtype`) are another class's at stage 1.
    flats: Any = getattr(engine.optimizer, "single_partition_of_fp32_groups", None)
    flats = flats or getattr(engine.optimizer, "fp32_groups_flat_partition", None)
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if stage == 3:
            cut = engine.optimizer
            group, offset, length = cut.grad_position[cut.get_param_id(parameter)]
            start = rank * length
            length = min(length, parameter.ds_numel - start)
            if length > 0:
                yield Piece(name, start, cut.fp32_partitioned_groups_flat[group], int(offset), int(length))
        elif stage:
            mapping = parameter._hp_mapping
            if mapping is not None:
                at, of = mapping.hp_fragment_address, mapping.lp_fragment_address
                yield Piece(name, of.start, flats[mapping.param_group_index], at.start, at.numel)
        else:
            yield Piece(name, 0, masters.get(id(parameter), parameter), 0, parameter.numel())


def _scaler(optimizer: Any) -> Any:
    """What keeps the loss scale of half precision; None where there is none."""
    return getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)


def _masters(optimizer: Any) -> dict[int, Tensor]:
    """Float32 masters by the identity of the half-precision parameter, of DeepSpeed's optimizer without ZeRO."""
    pairs = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=True)
    return {id(half): full for halves, fulls in pairs for half, full in zip(halves, fulls, strict=True)}
