"""Operations of a network, counted without computing any, and the time of a pass on one thread of this machine."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shapes = Sequence[Sequence[int]]

MOST_TIMED, ENOUGH = 1e11, 1e10
"""A row of more operations isn't timed here, where workers compute on CPUs: it takes too long. Of a batch as many rows
are timed as come to the second number, two at least."""

TIMES = 3


def counted(make: Callable[[], Callable[..., Any]], shapes: Shapes) -> int:
    """Count the operations of a forward pass, as torch counts them.

    Args:
        make: returns what is called; under torch's meta device, where nothing takes memory.
        shapes: of its arguments.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        make()(*(torch.zeros(*shape) for shape in shapes))
    return int(counter.get_total_flops())


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
