"""Operations of a network, counted without computing any, and their time: on one thread here, assumed of GPUs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from raydistill.core.section import Compute

Shapes = Sequence[Sequence[int]]

MOST_TIMED, ENOUGH = 1e11, 1e10
"""A row of more operations isn't timed here, where workers compute on CPUs: it takes too long. Of a batch as many rows
are timed as come to the second number, two at least."""

TIMES = 3

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "A10G": 70, "L40S": 362, "L4": 121, "V100": 112, "T4": 65}
"""Dense half-precision peak of accelerators by Ray's names of them, in TFLOP/s. Source: NVIDIA's data sheets."""

UTILISATION = 0.3
"""Share of the peak that large networks are assumed to reach; in single precision half of that."""

OPERATOR_S = 1e-5
"""Assumed of an operator that isn't compiled, from Python to its kernel's end, where the kernel has little to do."""


def counted(make: Callable[[], Callable[..., Any]], shapes: Shapes) -> int:
    """Count the operations of a forward pass, as torch counts them.

    Args:
        make: returns what is called; under torch's meta device, where nothing takes memory.
        shapes: of its arguments.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        make()(*(torch.zeros(*shape) for shape in shapes))
    return int(counter.get_total_flops())


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a device is asked for; a view asks it for nothing."""

    count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not operator.is_view
        return operator(*args, **(kwargs or {}))


def operators(make: Callable[[], Callable[..., Any]], shapes: Shapes) -> int:
    """Count the operators of a forward pass, of whatever size, as `counted` counts operations."""
    with torch.device("meta"), torch.no_grad():
        network, inputs = make(), [torch.zeros(*shape) for shape in shapes]
        with _Operators() as counter:  # type: ignore[no-untyped-call]
            network(*inputs)
    return int(counter.count)


def gpu_hours(tflop: float, asked: float, compute: Compute, precision: str) -> tuple[float | None, str]:
    """Return the hours of one worker with a GPU, None where its kind isn't known, and what they rest on.

    It computes at a share of its peak, or waits for the next operator, whichever takes longer.

    Args:
        tflop: 10^12 operations.
        asked: operators that it is asked for.
        compute: a worker.
        precision: fp32, bf16 or fp16.
    """
    kind = (compute.accelerator_type or "").split("-")[0]
    if not kind:
        return None, "no time: which GPU? compute.accelerator_type or --gpu names it"
    if kind not in PEAK_TFLOPS:
        return None, f"no time: {kind} isn't one of {', '.join(PEAK_TFLOPS)}"
    share = UTILISATION / (2 if precision == "fp32" else 1)
    computing, asking = tflop / (PEAK_TFLOPS[kind] * share * min(1.0, compute.num_gpus)), asked * OPERATOR_S
    if asking > computing:
        return asking / 3600, f"assumed: {asked:.2g} operators of {1e6 * OPERATOR_S:g} us, too small for a {kind}"
    return computing / 3600, f"counted: {kind} assumed at {100 * share:.0f} % of its peak"


def seconds_per_row(make: Callable[[], nn.Module], shape: Callable[[int], Shapes], rows: int) -> float | None:
    """Time a forward pass on one thread here, the best of several.

    Args:
        make: returns the network, with any weights, in the mode that is timed.
        shape: of its arguments, for so many rows.
        rows: of a batch.

    Returns:
        Seconds a row; None for a network too large to be timed.
    """
    # Two rows: normalising over a batch takes more than one.
    flops = counted(make, shape(2)) / 2
    if flops > MOST_TIMED:
        return None
    rows = max(2, min(rows, int(ENOUGH / flops)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, inputs = make(), [torch.zeros(*sizes) for sizes in shape(rows)]
        with torch.inference_mode():
            return min(_once(model, inputs) for _ in range(TIMES)) / rows
    finally:
        torch.set_num_threads(threads)


def _once(model: nn.Module, inputs: Sequence[torch.Tensor]) -> float:
    start = time.perf_counter()
    model(*inputs)
    return time.perf_counter() - start
