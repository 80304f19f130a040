"""What training reads: encoded once, kept samples alone, from weights whose past is known. Training: tests/golden."""

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from raydistill.core.columns import RECORDS, SAMPLES, VERDICTS
from raydistill.core.config import Config
from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.errors import ConfigError, InputError, NothingToDo, RaydistillError
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.images import encode_png
from raydistill.diffusion import components
from raydistill.diffusion.folder import WEIGHTS
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.diffusion.provenance import private_parts
from raydistill.diffusion.rows import LatentRows
from raydistill.distributed.engine import Engine
from raydistill.distributed.job import where
from raydistill.distributed.stream import Parts
from raydistill.distributed.train import form_group_of_one
from raydistill.stages.base import Context
from raydistill.stages.encode import Encode
from raydistill.stages.train_diffusion import GuardRows, TrainDiffusion

SMALL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)


def node(config=SMALL):
    return TrainDiffusion("student", config, {}, 0)


def latents(config=SMALL):
    return Encode("student_latents", config, {}, 0)


def sample(number, prompt="chest x-ray"):
    image = encode_png(np.full((16, 16), 20 * number, np.uint8))
    return {"sample_id": f"s-{number}", "prompt": prompt, "labels": [], "seed": number, "image": image}


def context(root, inputs):
    return Context({name: root / name for name in inputs}, root / "out", root / "work", 0)


def test_nothing_kept_is_nothing_to_do(tmp_path):
    root = Store.open(str(tmp_path))
    (root / "images").write_table("part-00000.parquet", pa.Table.from_pylist([sample(0)], schema=SAMPLES))
    dropped = {"sample_id": "s-0", "keep": False, "reason": "identity"}
    (root / "verdicts").write_table("part-00000.parquet", pa.Table.from_pylist([dropped], schema=VERDICTS))
    with pytest.raises(NothingToDo, match="the filter kept no sample"):
        latents().run(context(root, ("images", "verdicts")))


@pytest.mark.ray
def test_kept_samples_are_encoded_shard_by_shard_and_an_interrupted_pass_goes_on(local_ray, tmp_path):
    root = Store.open(str(tmp_path))
    long = "chest x-ray, " + "xylophonic zigzagging " * 20
    shards = {"part-00000.parquet": [0, 1, 2], "part-00001.parquet": [3], "part-00002.parquet": [4, 5]}
    for name, numbers in shards.items():
        rows = [sample(number, long if number == 5 else "chest x-ray") for number in numbers]
        (root / "images").write_table(name, pa.Table.from_pylist(rows, schema=SAMPLES))
        verdicts = [{"sample_id": f"s-{i}", "keep": i not in (1, 3), "reason": "kept"} for i in numbers]
        (root / "verdicts").write_table(name, pa.Table.from_pylist(verdicts, schema=VERDICTS))
    outcome = latents().run(context(root, ("images", "verdicts")))
    assert outcome.counts == {"train": 4}
    assert outcome.facts["notes"] == [
        "1 of 4 prompts have more than the 64 tokens that the model reads: what stands at their end can't be asked for"
    ]
    out = root / "out" / "train"
    index = out.read_json("index.json")
    assert index["shards"] == {"part-00000.parquet": 2, "part-00002.parquet": 2}
    assert index["common"] == ["chest x-ray", long]
    before = (tmp_path / "out/train/rows/part-00000.parquet").stat().st_mtime_ns
    out.delete("words/part-00002.parquet")
    latents().run(context(root, ("images", "verdicts")))
    assert (tmp_path / "out/train/rows/part-00000.parquet").stat().st_mtime_ns == before
    read = LatentRows(out)("part-00002.parquet")
    vae = components.load(tmp_path / "out/initial").vae
    pictures = np.stack([np.full((16, 16), 20 * number, np.uint8) for number in (4, 5)])
    np.testing.assert_allclose(read["latents"], components.encode_images(vae, pictures), rtol=1e-3, atol=1e-3)


@pytest.mark.ray
def test_calibration_images_are_encoded_beside_and_compared_in_equal_numbers(local_ray, tmp_path):
    root = Store.open(str(tmp_path))
    for name, count in (("images", 5), ("calibration", 3)):
        rows = [
            {
                "image_id": f"{name}-{i}",
                "patient_id": "p",
                "study_index": i,
                "sha256": "0",
                "image": sample(i)["image"],
                "prompt": "chest x-ray",
            }
            for i in range(count)
        ]
        (root / name).write_table("part-00000.parquet", pa.Table.from_pylist(rows, schema=RECORDS))
    given = context(root, ("images", "calibration"))
    assert latents().run(given).counts == {"train": 5, "calibration": 3}
    out = root / "out"
    given.inputs = {"rows": out / "train", "calibration": out / "calibration", "initial": out / "initial"}
    guard = node()._guard(given, (out / "train").read_json("index.json"))
    sides = guard.rows()
    assert {name: len(rows["latents"]) for name, rows in sides.items()} == {"train": 3, "calibration": 3}
    assert isinstance(guard.rows, GuardRows)


def test_the_key_knows_the_weights_and_not_where_they_lie(tmp_path):
    keys = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        components.prepare_initial(SMALL, resolution=16, seed=seed, folder=tmp_path / place)
        keys.append(latents(SMALL.model_copy(update={"pretrained": str(tmp_path / place)})).key_config())
    assert keys[0] == keys[1] != keys[2]
    assert latents().key_config()["start"]


def test_how_often_one_looks_does_not_change_the_key():
    seldom = {"checkpoint_every": 7, "checkpoint_minutes": 3.0, "log_every": 2}
    other = SMALL.model_copy(update={"optimizer": SMALL.optimizer.model_copy(update=seldom), "preview_every": 1})
    assert node(other).key_config() == node().key_config()
    deepspeed = SMALL.deepspeed.model_copy(update={"override": {"zero_optimization": {"overlap_comm": True}}})
    overridden = node(SMALL.model_copy(update={"deepspeed": deepspeed})).key_config()
    assert overridden["deepspeed"]["override"] == {"zero_optimization": {"overlap_comm": True}}
    assert overridden != node().key_config()


def test_how_the_state_is_cut_does_not_change_the_key():
    """So that the same command with another ZeRO stage goes on from the checkpoint."""
    how = {"zero_stage": 3, "gradient_checkpointing": True, "gradient_accumulation_steps": 2, "micro_batch_size": 3}
    other = SMALL.model_copy(update={"deepspeed": SMALL.deepspeed.model_copy(update=how)})
    assert node(other).key_config() == node().key_config()
    assert where(other.deepspeed, other.compute)["deepspeed"]["zero_stage"] == 3


@pytest.mark.parametrize("micro", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", range(1, 9))
def test_every_part_of_a_batch_has_a_row_whatever_the_number_of_workers(workers, micro):
    for rows in range(workers, 65):
        parts = Parts(rows, workers, DeepSpeedConfig(micro_batch_size=micro).micros(rows, workers))
        assert min(part.stop - part.start for rank in range(workers) for part in parts.of(rank)) > 0
        assert parts.width <= micro + (rows % workers > 0)


@pytest.mark.parametrize(("rows", "workers", "expected"), [(64, 1, 8), (64, 8, 1), (64, 3, 3), (7, 2, 1), (65, 2, 5)])
def test_a_worker_never_sees_more_rows_than_it_may(rows, workers, expected):
    micros = DeepSpeedConfig(micro_batch_size=8).micros(rows, workers)
    assert micros == expected
    assert Parts(rows, workers, micros).width <= 8
    assert DeepSpeedConfig(micro_batch_size=8, gradient_accumulation_steps=20).micros(rows, workers) == 20


def test_a_guard_reads_few_shards_of_a_large_set(tmp_path):
    rows = Counting(Store.open(str(tmp_path)))
    shards = tuple((f"{number}", 10) for number in range(50))
    some = rows.some(shards, 64, seed=0)
    assert len(some["latents"]) == len({*some["latents"].ravel()}) == 64
    assert len(rows.asked) == 8
    assert len(rows.some(shards, 200, seed=0)["latents"]) == 200
    assert len(rows.some(shards[:2], 7, seed=0)["latents"]) == 7


class Counting(LatentRows):
    """Rows numbered through, and which shards were read."""

    asked: ClassVar[set[str]] = set()

    def __call__(self, name):
        self.asked.add(name)
        return {"latents": int(name) * 10 + np.arange(10)}


def _check_both(config, whole):
    latents(config).check(whole)
    node(config).check(whole)


@pytest.mark.parametrize(
    ("stage", "config", "message"),
    [
        ({"optimizer": {"steps": 1, "batch_size": 1, "lr": 1e-3}}, {}, "has no row for each of 2 workers"),
        ({"deepspeed": {"precision": "fp16"}}, {}, "fp16 needs a GPU"),
        ({}, {"tracking": {"wandb": {}}}, r"tracking\.wandb needs a library that isn't installed"),
        ({}, {"ingest": {"resolution": 20}}, "isn't a multiple of 8"),
        ({"pretrained": "/no/such/folder"}, {}, "pretrained: no folder /no/such/folder$"),
        ({"pretrained": "no/such", "local_files_only": False}, {}, "the hub didn't give it: check its name"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_said_before_anything_starts(stage, config, message):
    sizes = {} if "pretrained" in stage else {"block_out_channels": (32, 64), "text_hidden_size": 32}
    changed, whole = DiffusionConfig.model_validate({**sizes, **stage}), Config.model_validate(config)
    with pytest.raises(RaydistillError, match=message):
        _check_both(changed, whole)
    node().check(Config())
    latents().check(Config())


def test_a_student_of_private_weights_is_refused_unless_allowed(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "whole")
    (tmp_path / "whole/raydistill.json").write_text('{"trained_on": ["ingest"]}')
    config = SMALL.model_copy(update={"pretrained": str(tmp_path / "whole")})
    size = {"ingest": {"resolution": 16}}
    student = Encode("student_latents", config, {"images": None, "verdicts": None}, 0)
    with pytest.raises(ConfigError, match=r"its model was trained on ingest.*allow_private_weights"):
        student.check(Config.model_validate(size))
    student.check(Config.model_validate({**size, "release": {"allow_private_weights": True}}))
    Encode("teacher_latents", config, {"images": None}, 0).check(Config.model_validate(size))


def test_a_student_of_what_only_the_teacher_calls_private_is_refused(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "whole")
    start = {"pretrained": str(tmp_path / "whole")}
    config = DiffusionConfig(**start)
    student = Encode("student_latents", config, {"images": None, "verdicts": None}, 0)
    both = {"ingest": {"resolution": 16}, "student": start}
    student.check(Config.model_validate(both | {"teacher": start}))
    told = Config.model_validate(both | {"teacher": {**start, "private_parts": ["vae"]}})
    with pytest.raises(ConfigError, match="its vae was trained on real data, as the teacher's configuration says"):
        student.check(told)


def test_a_copy_at_another_precision_is_refused_too(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "tuned")
    shutil.copytree(tmp_path / "tuned", tmp_path / "copy")
    file = tmp_path / "copy/vae" / WEIGHTS["vae"]
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    student = Encode("s", DiffusionConfig(pretrained=str(tmp_path / "copy")), {"images": None, "verdicts": None}, 0)
    teacher = {"pretrained": str(tmp_path / "tuned"), "private_parts": ["vae"]}
    with pytest.raises(ConfigError, match="its vae was trained on real data, as the teacher's configuration says"):
        student.check(Config.model_validate({"ingest": {"resolution": 16}, "teacher": teacher}))
    teacher["private_parts"] = ["unet"]
    file = tmp_path / "copy/unet" / WEIGHTS["unet"]
    save_file({name: tensor + 0.01 for name, tensor in load_file(file).items()}, file)
    student.check(Config.model_validate({"ingest": {"resolution": 16}, "teacher": teacher}))


def test_what_is_said_of_real_data_later_makes_the_encoding_anew(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "whole")
    keys = [
        latents(DiffusionConfig(pretrained=str(tmp_path / "whole"), private_parts=parts)).key_config()
        for parts in ((), ("vae",))
    ]
    assert keys[0] != keys[1]


def test_a_checkpoint_is_written_as_the_model_and_marked_like_it(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "initial")
    objective = DiffusionObjective(tmp_path / "initial", SMALL, 0)
    form_group_of_one()
    engine = Engine(objective.build(), SMALL.optimizer, SMALL.deepspeed, Parts(2, 1, 1), SMALL.ema_decay, None)
    rows = {"latents": np.ones((2, 4, 4, 4), np.float16), "words": np.ones((2, 64), np.int64)}
    for step in range(2):
        engine.learn(iter([objective.loss(engine.wrapped, step, slice(0, 2), rows)]))
    root, place = Store.open(str(tmp_path)), tmp_path / "work/train/checkpoint_1"
    place.mkdir(parents=True)
    engine.save(place, {"step": 2})
    made = SimpleNamespace(
        facts={"has_seen_real_data": True, "started_from": {}}, inputs={"images": SimpleNamespace(node="ingest")}
    )
    given = replace(context(root, ("initial",)), manifests={"rows": made})
    assert node().write_checkpoint(given, tmp_path / "model") == 2
    assert private_parts(DiffusionConfig(pretrained=str(tmp_path / "model")))["unet"] == ["ingest"]
    written = components.load(tmp_path / "model").unet.state_dict()
    for name, value in engine.trained().items():
        if name.startswith("unet."):
            torch.testing.assert_close(written[name.removeprefix("unet.")], value, rtol=0, atol=0)
    with pytest.raises(InputError, match="isn't a training"):
        latents().write_checkpoint(given, tmp_path / "other")
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="has no checkpoint"):
        node().write_checkpoint(given, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deepspeed": {"override": {"managed_gradient_accumulation": False}}}, "would contradict how batches are cut"),
        ({"optimizer": {"steps": 30, "batch_size": 2, "lr": 1e-3, "warmup_steps": 30}}, "leave nothing of 30 steps"),
        ({"optimizer": {"steps": 9, "batch_size": 2, "lr": 1, "warmup_steps": 1, "schedule": "constant"}}, "no warmup"),
        ({"lora": {}}, "lora adapts pretrained weights"),
        ({"lora": {}, "pretrained": "x"}, "lora leaves the text encoder as it is"),
        ({"private_parts": ["vae"]}, "private_parts speaks of pretrained"),
        ({"deepspeed": {"zero_stage": 0, "offload_optimizer": True}}, "offload_optimizer needs zero_stage"),
        ({"deepspeed": {"override": {"gradient_accumulation_steps": 4}}}, "would contradict how batches are cut"),
        ({"deepspeed": {"override": {"zero_optimization": {"stage": 3}}}}, "contradict deepspeed.zero_stage: set that"),
        ({"deepspeed": {"override": {"fp16": {"enabled": True}}}}, "contradict deepspeed.precision: set that"),
        ({"deepspeed": {"override": {"gradient_clipping": 2}}}, "contradict deepspeed.gradient_clipping"),
        ({"deepspeed": {"override": {"zero_optimization": {"offload_param": {}}}}}, "offload_param needs zero_stage 3"),
        (
            {"deepspeed": {"override": {"zero_optimisation": {}}}},
            "no zero_optimisation: did you mean zero_optimization",
        ),
        ({"pretrained": "x", "prediction_type": "epsilon"}, "prediction_type belong to a fresh model"),
        ({"compute": {"num_workers": [3, 2]}}, "the fewest come first"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig.model_validate(changes)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (3, "must be a mapping, not int"),
        ({"overlap_com": False}, "zero_optimization.overlap_com: unknown key"),
        ({"reduce_bucket_size": "many"}, "reduce_bucket_size: Input should be a valid integer"),
    ],
)
def test_what_deepspeed_does_not_take_is_refused_before_anything_starts(told, message):
    deepspeed = DeepSpeedConfig(override={"zero_optimization": told})
    with pytest.raises(ConfigError, match=rf"deepspeed\.override: .*{message}"):
        node(SMALL.model_copy(update={"deepspeed": deepspeed})).check(Config())


def test_layers_that_the_unet_does_not_have_are_named_before_anything_starts(tmp_path):
    components.prepare_initial(SMALL, resolution=16, seed=0, folder=tmp_path / "whole")
    start = {"pretrained": str(tmp_path / "whole"), "train_text_encoder": False}
    whole = Config.model_validate({"ingest": {"resolution": 16}})
    latents(DiffusionConfig.model_validate({**start, "lora": {}})).check(whole)
    strange = {"target_modules": ["to_q", "q_proj", "o_q"]}
    with pytest.raises(ConfigError, match="no layer named q_proj, o_q"):
        latents(DiffusionConfig.model_validate({**start, "lora": strange})).check(whole)


@pytest.mark.parametrize(
    ("eyes", "message"),
    [
        ({"judge": {"backbone": {"kind": "vit", "width": 30}, "seed": 2}}, r"reid_judge: backbone\.width 30 of a vit"),
        ({"filter": {"deepspeed": {"gradient_checkpointing": True}, "seed": 1}}, "a network would ignore it"),
    ],
)
def test_an_error_names_the_stage(tmp_path, eyes, message):
    from raydistill.pipeline import wire
    from raydistill.running import check_before_ray

    config = Config.model_validate({"eyes": eyes})
    with pytest.raises(ConfigError, match=message):
        check_before_ray(config, Store.open(str(tmp_path)), wire(config))
