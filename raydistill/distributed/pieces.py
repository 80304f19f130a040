"""Which part of which parameter a worker holds: the only place that knows how DeepSpeed keeps its state."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's two moments, by torch's names."""


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


def pieces_of(engine: Any) -> Iterator[Piece]:
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


def scaler_of(optimizer: Any) -> Any:
    """What keeps the loss scale of half precision; None where there is none."""
    return getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)


def _masters(optimizer: Any) -> dict[int, Tensor]:
    """Float32 masters by the identity of the half-precision parameter, of DeepSpeed's optimizer without ZeRO."""
    pairs = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=True)
    return {id(half): full for halves, fulls in pairs for half, full in zip(halves, fulls, strict=True)}
