"""`jobs/stable_diffusion.yaml` from end to end, with a tiny folder of just the layout of Stable Diffusion 1.x.

The teacher is an adaptation, as in the file; the student is trained in full.
"""

import json

import pytest
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from raydistill.core.store import Store
from raydistill.diffusion.tiny import PUBLIC
from tests.golden.conftest import run_to_end

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

SMALL = [
    "source={kind: phantom, num_patients: 60, max_visits: 3, resolution: 64}",
    "ingest={resolution: 64, prompts: {k: 3}}",
    *(f"eyes.{eye}.compute={{num_workers: 1, num_cpus: 1, num_gpus: 0}}" for eye in ("filter", "judge", "auditor")),
    *(f"eyes.{eye}.optimizer={{steps: 3, batch_size: 8, lr: 0.001}}" for eye in ("filter", "judge", "auditor")),
    *(f"eyes.{eye}.backbone.width=32" for eye in ("filter", "judge", "auditor")),
    *(f"{model}.compute={{num_workers: [1, 2], num_cpus: 1, num_gpus: 0}}" for model in ("teacher", "student")),
    *(
        f"{model}.optimizer={{steps: 12, batch_size: 8, lr: 0.001, warmup_steps: 1, checkpoint_every: 5}}"
        for model in ("teacher", "student")
    ),
    *(f"{model}.guard={{every: 6, images: 8, draws: 1}}" for model in ("teacher", "student")),
    *(f"{model}.preview_every=6" for model in ("teacher", "student")),
    *(
        f"{node}={{num_samples: 16, num_inference_steps: 2, batch_size: 8, rows_per_shard: 8, "
        "compute: {num_workers: 2, num_cpus: 0.5, num_gpus: 0}}"
        for node in ("teacher_samples", "student_samples")
    ),
    "match={compute: {num_workers: 1, num_cpus: 0.5, num_gpus: 0}}",
    "selftest={num_images: 4, strengths: [0.3], num_inference_steps: 3, compute: {num_workers: 1, num_cpus: 0.5, num_gpus: 0}}",
    "tune={num_trials: 2, max_excess_risk: 1.0, min_kept_share: 0.0}",
    "evaluate={bootstrap: 20, membership_images: 8, probe_steps: 5, compute: {num_workers: 1, num_cpus: 1, num_gpus: 0}}",
    "cluster={num_cpus: 4, object_store_mb: 200, health_check_interval_s: 0.2}",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Four blocks each in autoencoder and UNet, CLIP text encoder and tokenizer, PNDM: the parts by their names."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-stable-diffusion"
    tokenizer = CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer")
    attended = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=64,
            layers_per_block=1,
            block_out_channels=(8, 16, 16, 16),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            down_block_types=(*attended[0], "DownBlock2D"),
            up_block_types=("UpBlock2D", *attended[1]),
        ),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(weights, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "run"
    more = [*(f"{model}.pretrained={weights}" for model in ("teacher", "student")), "student.lora=null"]
    settings = [word for setting in (*SMALL, *more) for word in ("--set", setting)]
    done = run_to_end(str(run), *settings, config="jobs/stable_diffusion.yaml")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    store = Store.open(str(run))
    return run, store, store.read_json("summary.json")


def folder_of(finished, node):
    run, _, summary = finished
    return run / node / summary["nodes"][node]["key"]


def test_it_ends_in_a_verdict_of_a_student_that_read_samples_alone(finished):
    assert finished[2]["verdict"] in ("pass", "fail", "insufficient_evidence")
    certificate = json.loads((folder_of(finished, "decision") / "certificate.json").read_text())
    assert certificate["student"]["touched_real_data"] == []
    assert "unet/diffusion_pytorch_model.safetensors" in certificate["student"]["started_from"]["sha256"]


@pytest.mark.parametrize("node", ["teacher", "student"])
def test_plain_diffusers_loads_it_and_only_the_unet_changed(finished, weights, node):
    model = folder_of(finished, node) / "model"
    for part in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        with (
            safe_open(weights / f"{part}.safetensors", "pt") as before,
            safe_open(model / f"{part}.safetensors", "pt") as now,
        ):
            assert all((before.get_tensor(name) == now.get_tensor(name)).all() for name in before.keys())  # noqa: SIM118
    assert not [file for file in model.rglob("*") if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def changed(weights, model):
    """Names of the UNet's parameters that a training changed, and of all."""
    before = UNet2DConditionModel.from_pretrained(weights / "unet").state_dict()
    now = StableDiffusionPipeline.from_pretrained(model, safety_checker=None).unet.state_dict()
    return {name for name, value in now.items() if not (value == before[name]).all()}, set(before)


def test_an_adaptation_changes_attention_alone_and_is_there_by_itself(finished, weights):
    model = folder_of(finished, "teacher") / "model"
    names, _ = changed(weights, model)
    assert names
    assert all(any(target in name for target in ("to_q", "to_k", "to_v", "to_out.0")) for name in names)
    adapted = StableDiffusionPipeline.from_pretrained(weights, safety_checker=None)
    adapted.load_lora_weights(model / "lora")


def test_full_fine_tuning_changes_every_parameter(finished, weights):
    model = folder_of(finished, "student") / "model"
    names, every = changed(weights, model)
    assert names == every
    assert not (model / "lora").exists()


def test_words_are_embedded_once_and_the_course_can_be_watched(finished):
    run, _, summary = finished
    shapes = json.loads((folder_of(finished, "teacher_latents") / "train/shapes.json").read_text())
    assert shapes == {"latents": [4, 8, 8], "words": [64, 16]}
    logs = run / "logs" / "teacher" / summary["nodes"]["teacher"]["key"]
    assert (logs / "previews/step-000006.png").exists()
    assert list(logs.glob("events.out.tfevents.*"))
    manifest = json.loads((folder_of(finished, "teacher") / "manifest.json").read_text())
    assert manifest["config"]["lora"]["rank"] == 16
    assert "final_gap" in manifest["facts"]


def test_a_student_from_the_teacher_is_refused_before_anything_starts(finished, tmp_path):
    teacher = folder_of(finished, "teacher") / "model"
    settings = [
        word
        for setting in (*SMALL, f"teacher.pretrained={teacher}", f"student.pretrained={teacher}")
        for word in ("--set", setting)
    ]
    refused = run_to_end(str(tmp_path / "run"), *settings, config="jobs/stable_diffusion.yaml")
    assert refused.returncode == 2
    assert "student_latents" in refused.stderr
    assert "has seen real data: its model was trained on ingest" in refused.stderr
    assert "Traceback" not in refused.stderr
