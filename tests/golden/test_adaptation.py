"""`jobs/stable_diffusion.yaml` from end to end, with a tiny model of just the layout of Stable Diffusion 1.x
in the cache of the hub, under the id that the file names.

The teacher is an adaptation, as in the file; the student is trained in full. The other tests' run, where they are
asked for too, runs beside this one: either waits for processes to start most of the time.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import StableDiffusionPipeline

from raydistill.core.store import Store
from tests.diffusion import hub
from tests.golden.conftest import run_to_end

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2700)]

HUB_ID = "stable-diffusion-v1-5/stable-diffusion-v1-5"

SMALL = [
    "source={kind: phantom, num_patients: 60, max_visits: 3, resolution: 64}",
    "ingest={resolution: 64, prompts: {k: 3}}",
    *(f"eyes.{eye}.compute={{num_workers: 1, num_cpus: 1, num_gpus: 0}}" for eye in ("filter", "judge", "auditor")),
    *(f"eyes.{eye}.optimizer={{steps: 3, batch_size: 8, lr: 0.001}}" for eye in ("filter", "judge", "auditor")),
    *(f"eyes.{eye}.backbone.width=8" for eye in ("filter", "judge", "auditor")),
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
    "attack={num_samples: 8, guidance_scales: [4.0], num_inference_steps: 2, few_steps: 1}",
    "tune={num_trials: 2, max_reidentification_rate: 1.0, min_kept_share: 0.0}",
    "evaluate={bootstrap: 20, membership_images: 8, probe_steps: 5, networks: 1, compute: {num_workers: 1, num_cpus: 1, num_gpus: 0}}",
    "cluster={num_cpus: 4, object_store_mb: 200, health_check_interval_s: 0.2}",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """What the file's id of the hub stands for, small."""
    folder = tmp_path_factory.mktemp("model") / "whole"
    return folder, hub.write(folder)


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory, request):
    folder, _ = model
    run, cache = tmp_path_factory.mktemp("run") / "run", tmp_path_factory.mktemp("hub")
    hub.lay(cache, folder, HUB_ID)
    how = {"config": "jobs/stable_diffusion.yaml", "HF_HUB_CACHE": str(cache)}
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(run_to_end, str(run), *told("student.lora=null"), **how)
        if any("golden" in getattr(item, "fixturenames", ()) for item in request.session.items):
            request.getfixturevalue("golden")
        done = running.result()
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    store = Store.open(str(run))
    return run, store, store.read_json("summary.json")


def told(*more):
    return [word for setting in (*SMALL, *more) for word in ("--set", setting)]


def folder_of(finished, node):
    run, _, summary = finished
    return run / node / summary["nodes"][node]["key"]


def test_it_ends_in_a_verdict_of_a_student_that_read_samples_alone(finished):
    assert finished[2]["verdict"] in ("pass", "fail", "insufficient_evidence")
    certificate = json.loads((folder_of(finished, "decision") / "certificate.json").read_text())
    assert certificate["student"]["touched_real_data"] == []
    assert "unet/diffusion_pytorch_model.safetensors" in certificate["student"]["started_from"]["sha256"]


@pytest.mark.parametrize("node", ["teacher", "student"])
def test_plain_diffusers_loads_it_and_only_the_unet_changed(finished, model, node):
    folder = folder_of(finished, node) / "model"
    made = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    for part in ("vae", "text_encoder"):
        before, now = getattr(model[1], part).state_dict(), getattr(made, part).state_dict()
        assert before.keys() == now.keys()
        assert all((before[name] == now[name]).all() for name in before)
    assert not [file for file in folder.rglob("*") if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def changed(model, folder):
    """Names of the UNet's parameters that a training changed, and of all."""
    before = model[1].unet.state_dict()
    now = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).unet.state_dict()
    return {name for name, value in now.items() if not (value == before[name]).all()}, set(before)


def test_an_adaptation_changes_attention_alone_and_is_there_by_itself(finished, model):
    folder = folder_of(finished, "teacher") / "model"
    names, _ = changed(model, folder)
    assert names
    assert all(any(target in name for target in ("to_q", "to_k", "to_v", "to_out.0")) for name in names)
    adapted = StableDiffusionPipeline.from_pretrained(model[0], safety_checker=None, feature_extractor=None)
    adapted.load_lora_weights(folder / "lora")
    adapted.fuse_lora()
    adapted.unload_lora_weights()
    made = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).unet.state_dict()
    for name, value in adapted.unet.state_dict().items():
        torch.testing.assert_close(value, made[name], rtol=1e-5, atol=1e-6)


def test_full_fine_tuning_changes_every_parameter(finished, model):
    folder = folder_of(finished, "student") / "model"
    names, every = changed(model, folder)
    assert names == every
    assert not (folder / "lora").exists()


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
    settings = told(f"teacher.pretrained={teacher}", f"student.pretrained={teacher}")
    refused = run_to_end(str(tmp_path / "run"), *settings, config="jobs/stable_diffusion.yaml")
    assert refused.returncode == 2
    assert "student_latents" in refused.stderr
    assert "has seen real data: its model was trained on ingest" in refused.stderr
    assert "Traceback" not in refused.stderr
