"""A Stable Diffusion folder on disk: which files it must have, where it comes from, how it is read and written."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from raydistill.core.errors import InputError
from raydistill.core.training import hub_revision

WEIGHTS = {
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""The weights a folder must have; diffusers' and transformers' own file names."""

MARKER = "raydistill.json"
"""What raydistill adds to a folder that it trained: on which nodes, whether that was real data, from which weights."""

CLASSES = {
    "_class_name": "StableDiffusionPipeline",
    "vae": "AutoencoderKL",
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
}
ORIGIN = "_name_or_path"
"""Where diffusers notes which folder of this machine a part was read from."""

ABSOLUTE = ("/", "~")
"""How a description's values begin that name a folder of some machine; nothing that a model is built of does."""

TEXT_MODEL = "text_model."
"""How a CLIP text encoder's weights are named on the hub; newer releases of transformers write them without."""

DESCRIPTIONS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in WEIGHTS))
TOKENIZER = "tokenizer/tokenizer_config.json"


def check_layout(folder: Path) -> None:
    """Check that a folder is a whole Stable Diffusion folder with safetensors.

    Raises:
        InputError: naming what is missing, or which class is another.
    """
    needed = [*DESCRIPTIONS, *(f"{part}/{name}" for part, name in WEIGHTS.items())]
    missing = [name for name in needed if not (folder / name).exists()]
    if not any((folder / "tokenizer" / name).exists() for name in ("vocab.json", "tokenizer.json")):
        missing.append("tokenizer/vocab.json")
    if missing:
        raise InputError(
            f"{folder} isn't a Stable Diffusion folder with safetensors: {', '.join(missing)} missing; "
            + _how_to_mend(folder)
        )
    index = json.loads((folder / "model_index.json").read_text())
    found = {"_class_name": index.get("_class_name")} | {part: index.get(part, [None])[-1] for part in WEIGHTS}
    if found != CLASSES:
        raise InputError(f"{folder} holds {found}; {CLASSES} is needed")


def _how_to_mend(folder: Path) -> str:
    if variants := sorted(folder.glob("*/*.*.safetensors")):
        return f"{variants[0].name} is a variant: load it with diffusers' `variant=`, and write it with save_pretrained"
    return "weights in .bin or .ckpt can run code when read and are refused: convert them with save_pretrained"


def find(name: str, local_files_only: bool) -> Path:
    """Find a folder by its path, or a model of the hub by its id[@revision], cached or downloaded if allowed.

    Raises:
        InputError: when there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        raise InputError(
            f"pretrained: {name} is a single file; make a folder of it: StableDiffusionPipeline.from_single_file(…) in "
            "diffusers, then save_pretrained"
        )
    if name.startswith(("/", ".", "~")):
        raise InputError(f"pretrained: no folder {name}")
    return _of_hub(name, local_files_only)


@cache
def _of_hub(name: str, local_files_only: bool) -> Path:
    """Find a model of the hub, once a process: a branch may move while a run goes on."""
    patterns = [
        MARKER,
        f"*/{MARKER}",
        *DESCRIPTIONS,
        "tokenizer/*",
        *(f"{part}/{file}" for part, file in WEIGHTS.items()),
    ]
    repository, revision = hub_revision(name)
    try:
        found = snapshot_download(
            repository, revision=revision, local_files_only=local_files_only, allow_patterns=patterns
        )
        return Path(found)
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError) as error:
        raise InputError(
            f"pretrained: no folder {name}, and no such model in the local cache; "
            + (
                "download it first, or set local_files_only: false"
                if local_files_only
                else "the hub didn't give it: "
                f"check its name, the network, and for a gated model HF_TOKEN ({type(error).__name__})"
            )
        ) from error


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Load a folder as plain diffusers does: in float32, from local files, safetensors only, no code of theirs."""
    with _without_bars():
        return StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write a pipeline as a folder with safetensors, and the two tokenizer files that older readers expect.

    What it says doesn't depend on where it came from: equal models are equal files. A text encoder's weights have the
    names that every release of transformers reads.
    """
    with _without_bars():
        pipeline.save_pretrained(folder, safe_serialization=True)
    for description in (folder / name for name in (*DESCRIPTIONS, TOKENIZER)):
        said = json.loads(description.read_text())
        kept = {name: value for name, value in said.items() if name != ORIGIN and not str(value).startswith(ABSOLUTE)}
        if kept != said:
            description.write_text(json.dumps(kept, indent=2) + "\n")
    words = folder / "text_encoder" / WEIGHTS["text_encoder"]
    named = {TEXT_MODEL + name.removeprefix(TEXT_MODEL): tensor for name, tensor in load_file(words).items()}
    save_file(named, words, metadata={"format": "pt"})
    vocabulary = Path(pipeline.tokenizer.name_or_path)
    for name in ("vocab.json", "merges.txt"):
        if (vocabulary / name).exists():
            shutil.copyfile(vocabulary / name, folder / "tokenizer" / name)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep two libraries' progress bars away from the terminal: the pipeline shows its own."""
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in (diffusers_logging, transformers_logging):
            logging.enable_progress_bar()


def sha256(file: Path) -> str:
    """Hash a file's content: 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
