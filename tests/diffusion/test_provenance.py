"""Whose weights they are, and whether somebody's start was made from them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from raydistill.core.training import DiffusionConfig
from raydistill.diffusion import components, provenance
from raydistill.diffusion.folder import MARKER, TEXT_MODEL, WEIGHTS

TRAINED = {"trained_on": ["ingest"], "has_seen_real_data": True}


def at(folder, **more):
    return DiffusionConfig(pretrained=str(folder), **more)


@pytest.fixture
def whole(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "whole")


def mark(folder, said=TRAINED):
    (folder / MARKER).write_text(json.dumps(said))


def test_weights_that_saw_real_data_say_so(whole):
    assert provenance.private_parts(DiffusionConfig()) == provenance.private_parts(at(whole)) == {}
    mark(whole / "text_encoder")
    assert provenance.private_parts(at(whole)) == {"text_encoder": ["ingest"]}
    mark(whole)
    assert provenance.private_parts(at(whole, private_parts=("vae",))) == {
        "vae": ["real data, as private_parts says"],
        "model": ["ingest"],
        "text_encoder": ["ingest"],
    }


def test_a_released_student_is_no_private_weight_and_a_marker_that_does_not_say_is(whole):
    mark(whole, {"trained_on": ["teacher_samples", "verdicts"], "has_seen_real_data": False})
    assert provenance.private_parts(at(whole)) == {}
    mark(whole, {"trained_on": ["somewhere"]})
    assert provenance.private_parts(at(whole)) == {"model": ["somewhere"]}
    mark(whole, {})
    assert provenance.private_parts(at(whole)) == {"model": ["real data, as its marker says"]}


def test_a_start_is_named_by_content_and_never_by_a_path(whole):
    said = provenance.started_from(at(whole))
    assert str(whole.parent) not in json.dumps(said)
    assert said["name"] == "a local folder"
    (whole / "notes.txt").write_text("beside the model")
    provenance._started_from.cache_clear()
    assert provenance.started_from(at(whole)) == said


@pytest.mark.parametrize(
    ("private", "expected"),
    [({}, []), ({"vae": 1}, ["vae"]), ({"model": 1, "unet": 1}, ["unet"]), ({"model": 1}, sorted(WEIGHTS))],
)
def test_private_files_are_those_of_private_parts(private, expected):
    start = {f"{part}/{name}": part for part, name in WEIGHTS.items()} | {"tokenizer/vocab.json": "words"}
    assert sorted(provenance.private_files(start, private)) == expected


def changed(source, target, change, seed=1, part="unet"):
    """Copy a folder; change the tensors of a part."""
    shutil.copytree(source, target)
    file = target / part / WEIGHTS[part]
    torch.manual_seed(seed)
    save_file({name: change(tensor).contiguous() for name, tensor in load_file(file).items()}, file)
    return target


def trained(tensor):
    return tensor + 0.02 * torch.randn_like(tensor)


SUSPECTS = {
    "a copy": (lambda begin, made: made, ["unet"]),
    "half precision": (lambda begin, made: made.half(), ["unet"]),
    "trained a little further": (lambda begin, made: made + 0.002 * torch.randn_like(made), ["unet"]),
    "mostly the teacher's": (lambda begin, made: begin + 0.8 * (made - begin), ["unet"]),
    "the same public start": (lambda begin, made: begin, []),
    "the public start in half precision": (lambda begin, made: begin.half(), []),
    "another training from it": (lambda begin, made: begin + 0.02 * torch.randn_like(begin), []),
    "another seed": (lambda begin, made: begin.std() * torch.randn_like(begin), []),
}


@pytest.mark.parametrize("name", SUSPECTS)
def test_a_start_drawn_from_the_teacher_is_found_at_any_precision(tiny, tmp_path, name):
    change, expected = SUSPECTS[name]
    made = changed(tiny, tmp_path / "made", trained)
    weights = iter(load_file(made / "unet" / WEIGHTS["unet"]).values())
    suspect = changed(tiny, tmp_path / "suspect", lambda begin: change(begin, next(weights)), seed=2)
    assert provenance.drawn_from(suspect, made, tiny) == expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_what_a_short_training_moved_is_found_below_the_rounding_of_the_whole(tiny, tmp_path, kind):
    def adapted(tensor):
        return tensor + 0.001 * tensor.std() * torch.randn_like(tensor) if tensor.dim() == 2 else tensor

    made = changed(tiny, tmp_path / "made", adapted)
    copies = {"made": made, "begin": tiny}
    for name, source in copies.items():
        changed(source, tmp_path / f"{name}-copy", lambda tensor: tensor.to(kind))
    assert provenance.drawn_from(tmp_path / "made-copy", made, tiny) == ["unet"]
    assert provenance.drawn_from(tmp_path / "begin-copy", made, tiny) == []
    assert provenance.copied(tmp_path / "made-copy", made, ["unet"]) == ["unet"]
    assert provenance.copied(tmp_path / "made-copy", tiny, ["unet"]) == []
    assert provenance.copied(tmp_path / "made-copy", tiny, ["vae", "unet"]) == ["vae"]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_text_encoder_under_the_other_names_of_its_weights_is_found(tiny, tmp_path, kind):
    made = changed(tiny, tmp_path / "made", trained, part="text_encoder")
    suspect = changed(made, tmp_path / "suspect", lambda tensor: tensor.to(kind), part="text_encoder")
    file = suspect / "text_encoder" / WEIGHTS["text_encoder"]
    save_file({name.removeprefix(TEXT_MODEL): tensor for name, tensor in load_file(file).items()}, file)
    assert provenance.drawn_from(suspect, made, tiny) == ["text_encoder"]
    assert provenance.copied(suspect, made, ["text_encoder"]) == ["text_encoder"]
    assert provenance.copied(suspect, tiny, ["text_encoder"]) == []


def test_a_few_tensors_that_every_model_has_are_no_copy(tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    file = other / "unet" / WEIGHTS["unet"]
    tensors = load_file(file)
    norms = {name: tensor for name, tensor in tensors.items() if "norm" in name}
    save_file(norms | {f"{name}.x": tensor for name, tensor in tensors.items() if name not in norms}, file)
    assert norms
    assert provenance.copied(other, tiny, ["unet"]) == []


def test_other_sizes_are_no_copy(config, tiny, tmp_path):
    other = config.model_copy(update={"block_out_channels": (32, 96)})
    components.prepare_initial(other, resolution=16, seed=0, folder=tmp_path / "other")
    made = changed(tiny, tmp_path / "made", trained)
    assert provenance.drawn_from(tmp_path / "other", made, tiny) == []
