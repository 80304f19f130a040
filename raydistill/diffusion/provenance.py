"""Whose weights: what a model starts from, which parts have seen real data, whether one was drawn from another."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from raydistill.core.training import DiffusionConfig, public_name
from raydistill.diffusion.folder import DESCRIPTIONS, MARKER, TEXT_MODEL, WEIGHTS, find, sha256
from raydistill.diffusion.tiny import PUBLIC, PUBLIC_NAME

WHOLE = "model"
"""What is said of a whole folder, beside what is said of its parts."""


def started_from(config: DiffusionConfig) -> dict[str, Any]:
    """Say what a model starts from: `name`, which never is a path, and `sha256` of each file that decides it."""
    return _started_from(config.pretrained, config.local_files_only)


@cache
def _started_from(pretrained: str | None, local_files_only: bool) -> dict[str, Any]:
    if pretrained is None:
        root, name = PUBLIC, PUBLIC_NAME
        files = [PUBLIC / "vae" / WEIGHTS["vae"], PUBLIC / "tokenizer" / "vocab.json"]
    else:
        root, name = find(pretrained, local_files_only), public_name(pretrained)
        weights = [root / part / file for part, file in WEIGHTS.items()]
        markers = [root / part / MARKER for part in ("", *WEIGHTS)]
        files = [*(root / said for said in DESCRIPTIONS), *weights, *markers, *sorted((root / "tokenizer").iterdir())]
    return {"name": name, "sha256": {str(file.relative_to(root)): sha256(file) for file in files if file.is_file()}}


def private_parts(config: DiffusionConfig) -> dict[str, list[str]]:
    """Say which parts of a starting point have seen real data, and what: empty for public weights.

    Known are folders and parts of folders that raydistill trained, which carry a marker, and what is configured.
    """
    if config.pretrained is None:
        return {}
    folder = folder_of(config)
    found: dict[str, list[str]] = {part: ["real data, as private_parts says"] for part in config.private_parts}
    for part in ("", *WEIGHTS):
        marker = folder / part / MARKER
        said: dict[str, Any] = json.loads(marker.read_text()) if marker.exists() else {"has_seen_real_data": False}
        if said.get("has_seen_real_data", True):
            found[part or WHOLE] = list(said.get("trained_on") or ["real data, as its marker says"])
    return found


def weights_of(private: Mapping[str, object]) -> list[str]:
    """Parts whose weights have seen real data, of what `private_parts` gives: all where the parts don't say."""
    return sorted(set(private) - {WHOLE} or (WEIGHTS if private else ()))


def private_files(start: Mapping[str, str], private: Mapping[str, object]) -> dict[str, str]:
    """Return the weights that have seen real data, SHA-256 to path.

    Args:
        start: path to SHA-256, as `started_from` gives them.
        private: by part, as `private_parts` gives them.
    """
    weights = {f"{part}/{WEIGHTS[part]}" for part in weights_of(private)}
    return {digest: path for path, digest in start.items() if path in weights}


def folder_of(config: DiffusionConfig) -> Path:
    """Return the folder of the weights that a model starts from; of a fresh one, what is packaged."""
    return find(config.pretrained, config.local_files_only) if config.pretrained else PUBLIC


def copied(start: Path, origin: Path, parts: Iterable[str]) -> list[str]:
    """Find which of some parts of a starting point are another folder's, at any precision.

    Args:
        start: folder that is suspected.
        origin: folder that is known to be private.
        parts: names.
    """
    files = {part: [folder / part / WEIGHTS[part] for folder in (start, origin)] for part in parts}
    return [part for part, pair in files.items() if all(file.is_file() for file in pair) and _is_same(*pair)]


def _is_same(*files: Path) -> bool:
    equal = [torch.equal(suspect, _rounded(known, suspect)) for suspect, known in _aligned(*files)]
    return bool(equal) and all(equal)


def drawn_from(start: Path, model: Path, origin: Path) -> list[str]:
    """Find the parts of a starting point that were made from another model's training, copied at any precision.

    Such a part lies nearer to what that training made than to where it began, and moved less than it did. Weights of
    another shape, or of independent origin, don't.

    Args:
        start: folder that is suspected.
        model: folder that was trained.
        origin: folder from which that training began.

    Returns:
        Names of parts.
    """
    found = []
    for part, name in WEIGHTS.items():
        near = kept = moved = 0.0
        for suspect, *theirs in _aligned(*(folder / part / name for folder in (start, model, origin))):
            # Else rounding the whole would hide what a short training moved.
            made, before = (_rounded(tensor, suspect) for tensor in theirs)
            near += float((suspect - made).square().sum())
            kept += float((suspect - before).square().sum())
            moved += float((made - before).square().sum())
        if near < kept and near < moved:
            found.append(part)
    return found


def _rounded(tensor: Tensor, like: Tensor) -> Tensor:
    """Round to the precision at which another tensor was once kept, by its values, whatever type they have now."""
    for kind in (torch.bfloat16, torch.float16):
        if torch.equal(like, like.to(kind).to(like.dtype)):
            return tensor.to(kind).to(tensor.dtype)
    return tensor


def _aligned(*files: Path) -> Iterator[list[Tensor]]:
    """Tensors of the same name in all files, in float64; none where they don't make up most of each file."""
    opened: list[Any] = [safe_open(file, "pt") for file in files]
    named = [{name.removeprefix(TEXT_MODEL): name for name in file.keys()} for file in opened]  # noqa: SIM118 (not a mapping)
    shapes = [
        {short: tuple(file.get_slice(name).get_shape()) for short, name in names.items()}
        for file, names in zip(opened, named, strict=True)
    ]
    common = [name for name, shape in shapes[0].items() if all(other.get(name) == shape for other in shapes)]
    shared = sum(prod(shapes[0][name]) for name in common)
    if all(2 * shared > sum(map(prod, all_of.values())) for all_of in shapes):
        for name in common:
            yield [file.get_tensor(names[name]).double() for file, names in zip(opened, named, strict=True)]
