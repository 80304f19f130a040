"""A checkpoint of no world size: every worker's pieces by name and place, in safetensors.

It can be taken up by any number of workers and by any ZeRO stage.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from raydistill.core.store import Store
from raydistill.distributed.pieces import Piece

WEIGHTS, AVERAGE = "weights", "average"
"""Kinds of state, beside `pieces.MOMENTS`: the weights and their moving average."""

STATE, BUFFERS, FACTS = "state-{:05d}.safetensors", "buffers.safetensors", "facts.json"


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


def newest(run: Store) -> Store | None:
    """Return the newest checkpoint that is whole below a folder of them; a kill may cut an upload short."""
    names = sorted({name.split("/")[0] for name in run.files() if name.endswith(f"/{FACTS}")}, reverse=True)
    return next((run / name for name in names if _is_whole((run / name).keep_local())), None)


def _is_whole(folder: Path) -> bool:
    try:
        # Opening holds a file's length against its header.
        with Saved(folder) as saved, safe_open(folder / BUFFERS, "pt"):
            return len(saved.files) == int(facts(folder)["workers"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return False


class Saved:
    """The state files of a checkpoint, open, whichever workers wrote them."""

    def __init__(self, folder: Path) -> None:
        """Open them; none is read yet."""
        self.files: list[Any] = [safe_open(path, "pt") for path in sorted(folder.glob(STATE.replace("{:05d}", "*")))]
        self.places: dict[str, list[tuple[int, int, Any]]] = {}
        for file in self.files:
            starts = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                start = int(starts[name])
                self.places.setdefault(name, []).append((start, file.get_slice(name).get_shape()[0], file))

    def __enter__(self) -> "Saved":
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
    return read_whole(folder, AVERAGE if facts(folder)["engine"]["average_steps"] else WEIGHTS, module)


def read_whole(folder: Path, kind: str, module: nn.Module) -> dict[str, Tensor]:
    """Assemble the tensors of one kind, and the buffers, for a module that isn't cut yet."""
    whole = {}
    with Saved(folder) as saved:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                flat = torch.zeros(parameter.numel())
                saved.fill(kind, Piece(name, 0, flat, 0, flat.numel()), flat)
                whole[name] = flat.view(parameter.shape)
    with safe_open(folder / BUFFERS, "pt") as file:
        return whole | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that are part of a module's state, such as the running statistics of a batch normalisation."""
    kept = set(module.state_dict())
    return {name: buffer.detach().cpu().contiguous() for name, buffer in module.named_buffers() if name in kept}
