"""Whose weights: what a model starts from, which parts have seen real data, whether one was drawn from another."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open

from raydistill.core.training import DiffusionConfig
from raydistill.diffusion.folder import DESCRIPTIONS, MARKER, WEIGHTS, find, sha256
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
        root, name = find(pretrained, local_files_only), "a local folder" if Path(pretrained).is_dir() else pretrained
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
    folder = find(config.pretrained, config.local_files_only)
    found: dict[str, list[str]] = {part: ["real data, as private_parts says"] for part in config.private_parts}
    for part in ("", *WEIGHTS):
        marker = folder / part / MARKER
        said = json.loads(marker.read_text()) if marker.exists() else {}
        if said and said.get("has_seen_real_data", True):
            found[part or WHOLE] = list(said["trained_on"])
    return found


def private_files(start: Mapping[str, str], private: Mapping[str, object]) -> dict[str, str]:
    """Return the weights that have seen real data, SHA-256 to path.

    Args:
        start: path to SHA-256, as `started_from` gives them.
        private: by part, as `private_parts` gives them; a folder whose parts don't say is private as a whole.
    """
    parts = set(private) - {WHOLE} or (set(WEIGHTS) if private else set())
    weights = {f"{part}/{WEIGHTS[part]}" for part in parts}
    return {digest: path for path, digest in start.items() if path in weights}


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
        for suspect, made, before in _aligned(*(folder / part / name for folder in (start, model, origin))):
            near += float((suspect - made).square().sum())
            kept += float((suspect - before).square().sum())
            moved += float((made - before).square().sum())
        if near < kept and near < moved:
            found.append(part)
    return found


def _aligned(*files: Path) -> Iterator[list[Any]]:
    """Tensors of the same name in all files, in float64; none where names or shapes differ."""
    opened: list[Any] = [safe_open(file, "pt") for file in files]
    shapes = [{name: file.get_slice(name).get_shape() for name in file.keys()} for file in opened]  # noqa: SIM118 (not a mapping)
    if all(other == shapes[0] for other in shapes):
        for name in shapes[0]:
            yield [file.get_tensor(name).double() for file in opened]
