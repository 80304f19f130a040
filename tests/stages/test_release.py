"""The gate: what passes, what fails, what lacks evidence, and what a student may have touched."""

from datetime import date
from typing import get_args

import numpy as np
import pytest
from transformers import ResNetConfig, ResNetModel

from raydistill.core.config import Budgets, Config, EvaluateConfig, Preset, ReleaseConfig, SelfTestConfig
from raydistill.core.errors import ConfigError
from raydistill.core.loading import load_config
from raydistill.diffusion.folder import WEIGHTS
from raydistill.metrics.floors import short_of_membership, short_of_method, short_of_strengths
from raydistill.metrics.result import insufficient
from raydistill.stages.outcomes import broken_in_words
from raydistill.stages.release import Release, ReleaseNodeConfig
from tests.stages.gate import COHORT, READ, SELFTEST, STUDENT, TEACHER, decide, result


def test_it_passes_when_every_interval_keeps_its_budget(tmp_path):
    verdict, certificate = decide(tmp_path)
    assert verdict["verdict"] == certificate["verdict"] == "pass"
    # Copies are judged twice, by their share and by whether any are certain.
    assert len(verdict["reasons"]) == len(JUDGED) + 2 + len(PROVEN) + len(SELFTEST)
    assert certificate["student"]["touched_real_data"] == []
    assert certificate["filter"] == {"identity_threshold": 0.5}
    people = {"train": {"images": 60, "patients": 30}, "probe": {"images": 12, "patients": 6}}
    assert certificate["cohort"] == people
    assert certificate["samples"] == {"as asked for by default": 100, "asked harder": 200}
    assert date.fromisoformat(certificate["decided"]) >= date(2026, 1, 1)


def test_without_a_setting_that_keeps_its_bounds_the_one_that_is_broken_is_named(tmp_path):
    verdict, _ = decide(tmp_path, policy={"is_feasible": False, "broken": broken_in_words({"near_copies": 7}, 9)})
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0] == (
        "No setting of the filter kept every bound of the search: 7 of 9 settings come to too many near-copies "
        "(tune.max_near_copy_rate)."
    )


PROVEN = (
    "closer_to_train_excess", "attacked_closer_to_train_excess", "patients_hit_excess", "identified_excess",
    "attacked_identified_excess", "attacked_patients_hit_excess",
)  # fmt: skip
"""What fails only where it is certain."""
SHORT = ("auditor_tpir", "auditor_sensitivity", "certain_sensitivity", "control_rate", "near_copy_control_rate")
"""What no claim can be made without."""
JUDGED = [name for name in STUDENT if name not in (*SHORT, *PROVEN)]


@pytest.mark.parametrize("name", [*sorted({*JUDGED} - {"prompt_k"}), *SELFTEST])
def test_every_budget_alone_can_fail_the_release_or_leave_it_open(tmp_path, name):
    group = "student" if name in STUDENT else "selftest"
    broken = (0.1, 0.05, 0.15) if name.startswith(("sens", "consistency")) else (0.9, 0.85, 0.95)
    verdict, _ = decide(tmp_path / "broken", **{group: {name: broken}})
    assert verdict["verdict"] == "fail"
    assert verdict["reasons"][0].startswith(f"{group}.{name} is")
    for case, values in {"wide": (0.5, 0.0, 1.0), "missing": (None,), "bare": (0.5,)}.items():
        verdict, _ = decide(tmp_path / case, **{group: {name: values}})
        assert verdict["verdict"] == "insufficient_evidence", case


def test_a_prompt_that_fits_too_few_people_fails_and_where_none_fits_anybody_nothing_is_asked(tmp_path):
    verdict, _ = decide(tmp_path / "few", student={"prompt_k": (4, 4, 4)})
    assert verdict["verdict"] == "fail"
    assert verdict["reasons"][0].startswith("student.prompt_k is")
    nobody = insufficient("no prompt says anything", n=0, unit="train patients")
    assert decide(tmp_path / "none", student={"prompt_k": nobody})[0]["verdict"] == "pass"
    unread = nobody.model_copy(update={"n": 3})
    assert decide(tmp_path / "unread", student={"prompt_k": unread})[0]["verdict"] == "insufficient_evidence"


def test_who_is_linked_by_prompts_fails_and_where_nothing_rare_was_asked_nothing_is_held(tmp_path):
    for case, values, expected in (("linked", (0.3, 0.2, 0.4), "fail"), ("none", (None,), "pass")):
        assert decide(tmp_path / case, student={"prompt_linkage": values})[0]["verdict"] == expected


def test_an_audit_that_is_blind_to_the_models_own_copies_certifies_nothing(tmp_path):
    nothing, blind = insufficient("none", n=0, unit="share"), result(0.3, 0.2, 0.4)
    for case, value, expected in (("blind", blind, "insufficient_evidence"), ("none", nothing, "pass")):
        verdict, _ = decide(tmp_path / case, student={"auditor_sensitivity.generator": value})
        assert verdict["verdict"] == expected


def test_the_certificate_names_the_networks_the_matching_and_somebodys_policy(tmp_path):
    own = {"filter": {"policy": {"factory": "ours.policy:Mine", "options": {"path": "/data/ward7"}}}}
    _, certificate = decide(tmp_path, measured=own)
    told = certificate["settings"]
    assert told["filter"] == {"policy": "ours.policy:Mine"}
    assert told["eyes"]["auditor"]["backbone"] == "regnet"
    assert len(told["eyes"]["filter"]["started_from"]) == 64
    assert told["match"]["near_copy_max_shift"] == 2


@pytest.mark.parametrize("name", PROVEN)
def test_what_is_uncertain_is_held_against_nobody_and_what_is_certain_is(tmp_path, name):
    for case, values, expected in (
        ("certain", (0.5, 0.2, 0.8), "fail"),
        ("wide", (0.5, 0.0, 1.0), "pass"),
        ("none", (None,), "insufficient_evidence"),
    ):
        assert decide(tmp_path / case, student={name: values})[0]["verdict"] == expected


@pytest.mark.parametrize(
    ("name", "limit"), [("min_sensitivity", 0.0), ("max_false_flag_rate", 1.0), ("max_excess_risk", 1.0)]
)
def test_with_a_budget_that_judges_nothing_nothing_is_certified(tmp_path, name, limit):
    verdict, _ = decide(tmp_path / "idle", config=ReleaseConfig(budgets=Budgets(**{name: limit})))
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0] == (f"release.budgets.{name} is {limit:g}, so it judges nothing.")
    bad = decide(tmp_path / "bad", student={"leak_rate": (0.9, 0.8, 1.0)}, config=ReleaseConfig())[0]
    assert bad["verdict"] == "fail"


def test_a_pass_by_looser_budgets_names_them_last_and_in_the_certificate(tmp_path):
    budgets = Budgets(max_leak_rate=0.5, min_sensitivity=0.8, max_membership_auc=0.58)
    verdict, certificate = decide(tmp_path, config=ReleaseConfig(budgets=budgets))
    assert verdict["verdict"] == certificate["verdict"] == "pass"
    said = [
        "release.budgets.max_leak_rate is 0.5, looser than raydistill's own 0.05.",
        "release.budgets.min_sensitivity is 0.8, looser than raydistill's own 0.9.",
    ]
    assert verdict["caveats"] == verdict["reasons"][-2:] == certificate["reasons"][-2:] == said
    assert all(" keeps " in reason or " passes " in reason for reason in verdict["reasons"][:-2])


@pytest.mark.parametrize("given", [False, True])
def test_a_certificate_says_whether_the_source_gave_the_roles(tmp_path, given):
    assert decide(tmp_path, cohort=COHORT | {"roles_given": given})[1]["roles_given"] is given


def test_consistency_judges_only_when_it_has_a_budget_and_without_one_nothing_is_certified(tmp_path):
    low = {"consistency_jaccard": (0.0, 0.0, 0.1)}
    assert decide(tmp_path / "judged", selftest=low)[0]["verdict"] == "fail"
    config = ReleaseConfig(budgets=Budgets(min_consistency_jaccard=0.0))
    assert decide(tmp_path / "reported", selftest=low, config=config)[0]["verdict"] == "insufficient_evidence"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"read": {**READ, "more": "ingest"}}, "its training read ingest"),
        ({"private_start": {"model": ["ingest"]}}, "its starting model was trained on ingest"),
        (
            {"started_from": {"sha256": {"text_encoder/model.safetensors": "b" * 64, "vae/x.safetensors": "c" * 64}}},
            "its starting text_encoder/model.safetensors is model/text_encoder.safetensors of the teacher",
        ),
        (
            {"teacher": {"private_start": {"vae": ["somewhere"]}}},
            "its starting vae/diffusion_pytorch_model.safetensors is vae/diffusion_pytorch_model.safetensors of the teacher",
        ),
    ],
)
def test_a_student_that_touched_real_data_is_refused_unless_allowed(tmp_path, how, why):
    verdict, certificate = decide(tmp_path / "refused", **how)
    assert verdict["verdict"] == "fail"
    assert why in verdict["reasons"][0]
    assert certificate["student"]["touched_real_data"] == [why]
    allowed = ReleaseConfig(allow_private_weights=True)
    verdict, certificate = decide(tmp_path / "allowed", config=allowed, **how)
    assert verdict["verdict"] == "pass"
    said = f"The student has touched real data: {why}; release.allow_private_weights accepts that."
    assert verdict["caveats"] == verdict["reasons"][-1:] == certificate["reasons"][-1:] == [said]
    assert certificate["student"]["touched_real_data"] == [why]


def test_public_weights_that_the_teacher_took_over_unchanged_are_nobody_s(tmp_path):
    """Written anew they have another hash than where they came from; the teacher's folder has them too."""
    started = {"started_from": {"sha256": {"vae/x.safetensors": "b" * 64}}}
    files = {"teacher_latents": {"initial/text_encoder/model.safetensors": TEACHER["text_encoder"]}}
    assert decide(tmp_path / "taken", files=files, **started)[0]["verdict"] == "pass"
    assert (
        decide(tmp_path / "private", files=files, teacher={"private_start": {"text_encoder": ["x"]}}, **started)[0][
            "verdict"
        ]
        == "fail"
    )


def test_a_copy_of_the_teacher_under_another_name_and_precision_is_refused(tmp_path):
    verdict, certificate = decide(tmp_path, start=(1.5, 2.49))
    assert verdict["verdict"] == "fail"
    why = "lies nearer to the teacher's than to where the teacher began"
    assert certificate["student"]["touched_real_data"] == [f"its starting {part} {why}" for part in WEIGHTS]


def test_too_few_patients_are_never_a_pass(tmp_path):
    verdict, _ = decide(tmp_path / "few", patients=29)
    assert verdict["verdict"] == "insufficient_evidence"
    assert "29 evaluation patients are too few" in verdict["reasons"][0]
    verdict, _ = decide(tmp_path / "failed", patients=29, student={"excess_risk": (0.9, 0.8, 1.0)})
    assert verdict["verdict"] == "fail"


@pytest.mark.parametrize("sees", [(0.05, 0.0, 0.1), (0.4, 0.1, 0.7), (None,)])
@pytest.mark.parametrize("eye", ["auditor_tpir", "auditor_sensitivity", "certain_sensitivity"])
def test_a_blind_auditor_can_t_certify_and_doesn_t_accuse(tmp_path, eye, sees):
    verdict, _ = decide(tmp_path / "blind", student={eye: sees})
    assert verdict["verdict"] == "insufficient_evidence"
    assert f"The auditor may be too blind to judge: student.{eye}" in verdict["reasons"][0]
    waived = ReleaseConfig(budgets=Budgets(**{f"min_{eye}": 0.0}))
    verdict, _ = decide(tmp_path / "waived", student={eye: sees}, config=waived)
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0] == f"release.budgets.min_{eye} is 0, so it judges nothing."


@pytest.mark.parametrize("name", ["control_rate", "near_copy_control_rate"])
def test_evaluation_people_who_seem_to_be_in_the_gallery_are_no_control(tmp_path, name):
    aliased = {name: result(0.31, 0.2, 0.4).model_copy(update={"baseline": 0.09})}
    verdict, _ = decide(tmp_path / "aliased", student=aliased)
    assert verdict["verdict"] == "insufficient_evidence"
    assert "may be train patients under other ids" in verdict["reasons"][0]
    usual = {name: result(0.06, 0.03, 0.1).model_copy(update={"baseline": 0.09})}
    assert decide(tmp_path / "usual", student=usual)[0]["verdict"] == "pass"


@pytest.mark.parametrize("area", [(0.56, 0.43, 0.68), (0.9, 0.6, 0.97)])
def test_nothing_is_lost_where_nothing_was_learned_and_that_is_no_pass(tmp_path, area):
    verdict, _ = decide(tmp_path / "noise", real={"utility_auroc": area}, student={"utility_loss": (0.0, -0.03, 0.06)})
    assert verdict["verdict"] == "insufficient_evidence"
    assert "can't be learned well enough even from real images" in verdict["reasons"][0]
    assert "above 0.6" in verdict["reasons"][0]
    budgets = ReleaseConfig(budgets=Budgets(max_utility_loss=0.5))
    assert decide(tmp_path / "waived", real={"utility_auroc": area}, config=budgets)[0]["verdict"] == "pass"


def test_without_findings_it_is_the_loss_that_is_missing(tmp_path):
    verdict, _ = decide(tmp_path, real={"utility_auroc": (None,)}, student={"utility_loss": (None,)})
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0].startswith("student.utility_loss has no value")


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ({"membership_shadow_auc": (0.6, 0.53, 0.67)}, "easier than evaluation images"),
        ({"membership_shadow_auc": (0.4, 0.33, 0.47)}, "harder than evaluation images"),
        ({"membership_shadow_auc": (0.52, 0.43, 0.61)}, "too few people to show"),
        ({"membership_shadow_auc": (0.48, 0.39, 0.57)}, "too few people to show"),
        ({"membership_probe_auc": (0.7, 0.61, 0.78)}, "knows people and not just their pictures"),
    ],
)
def test_sides_that_differ_in_more_than_training_are_no_evidence(tmp_path, arm, why):
    verdict, _ = decide(tmp_path / "short", student=arm)
    assert verdict["verdict"] == "insufficient_evidence"
    assert why in verdict["reasons"][0]
    usual = {"membership_shadow_auc": (0.53, 0.51, 0.55), "membership_probe_auc": (0.6, 0.52, 0.68)}
    assert decide(tmp_path / "usual", student=usual)[0]["verdict"] == "pass"
    assert decide(tmp_path / "failed", student={**arm, "membership_auc": (0.9, 0.8, 1.0)})[0]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("lenient", "name"),
    [
        ({"evaluate": {"confidence": 0.05}}, "evaluate.confidence is 0.05"),
        ({"evaluate": {"shadow_share": 0.0005}}, "shadow_share is 0.0005"),
        ({"evaluate": {"probe_steps": 1}}, "evaluate.probe_steps is 1"),
        ({"evaluate": {"audit_fpir": 0.6}}, "evaluate.audit_fpir is 0.6, and 0.1 is the most"),
        ({"evaluate": {"audit_near_copy_fpir": 0.3}}, "evaluate.audit_near_copy_fpir is 0.3, and 0.05 is the most"),
        ({"selftest": {"strengths": [0.01]}}, "selftest.strengths, distinct in steps is 1"),
        ({"attack": {"guidance_scales": [1]}}, "attack.guidance_scales, distinct up to 15 is 1"),
        ({"attack": {"guidance_scales": [2.0, 2.0001]}}, "attack.guidance_scales, distinct up to 15 is 1"),
        ({"attack": {"guidance_scales": [4.0, 999.0, 1000.0]}}, "attack.guidance_scales, distinct up to 15 is 1"),
        ({"attack": {"guidance_scales": [1.0, 2.0, 12.0]}}, "attack.guidance_scales, from 3 to 10 is 0"),
        ({"attack": {"few_steps": 1000}}, "attack.few_steps is 1000"),
        ({"attack": {"few_steps": 1}}, "attack.few_steps is 1, and 3 is the least"),
        ({"attack": {"num_samples": 255}}, "attack.num_samples in all ways is 1020"),
        ({"attack": {"guidance_scales": [1.0, 4.0, 99.0]}}, "attack.num_samples in all ways is 768, and 1024"),
        ({"attack": {"num_inference_steps": 4}}, "attack.num_inference_steps is 4"),
        ({"student_samples": {"num_inference_steps": 9}}, "student_samples, fewest steps is 9"),
        ({"student_samples": {"ways": [[2.0, 20], [99.0, 20]]}}, "student_samples, strongest guidance is 99"),
        ({"student_samples": {"ways": [[2.0, 20], [2.0, 1]]}}, "student_samples, fewest steps is 1"),
        ({"ingest": {"prompts": {"k": 1}}}, "ingest.prompts.k is 1, and 5 is the least"),
        ({"ingest": {"prompts": {"k": 4}}}, "ingest.prompts.k is 4"),
    ],
)
def test_evidence_that_was_made_leniently_is_none(tmp_path, lenient, name):
    verdict, certificate = decide(tmp_path, measured=lenient)
    assert verdict["verdict"] == "insufficient_evidence"
    assert name in verdict["reasons"][0]
    part, changed = next(iter(lenient.get("ingest", lenient).items()))
    assert all(certificate["settings"][part][key] == value for key, value in changed.items())


LEVELS, STRENGTHS = "membership_timesteps", "selftest.strengths"


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ((0.99,), f"{LEVELS}, distinct from 0.05 to 0.7 is 0, and 3 is the least"),
        ((0.1, 0.3, 0.3, 0.3003), f"{LEVELS}, distinct from 0.05 to 0.7 is 2"),
        ((0.001, 0.1, 0.2, 0.3, 0.99), f"{LEVELS}, latest of these is 0.3"),
        ((0.001, 0.3, 0.4, 0.5), f"{LEVELS}, earliest of these is 0.3"),
        ((0.1, 0.3, 0.5, 0.97, 0.98, 0.99), f"{LEVELS}, share beyond these is 0.5"),
        ((0.1, 0.3, 0.5, 0.8), None),
    ],
)
def test_noise_levels_at_which_nobody_can_be_told_are_no_attack(levels, why):
    told = short_of_membership(EvaluateConfig(membership_timesteps=levels))
    assert why in told[0] if why else told == []


@pytest.mark.parametrize(
    ("strengths", "steps", "why"),
    [
        ((0.001, 0.002, 0.003, 0.4), 10, f"{STRENGTHS}, distinct in steps is 2, and 4 is the least"),
        ((0.1, 0.2, 0.3, 0.3, 0.35), 1000, f"{STRENGTHS}, strongest is 0.35"),
        ((0.3, 0.4, 0.5, 0.6), 20, f"{STRENGTHS}, weakest is 0.3"),
        ((*(0.001 * n for n in range(1, 9)), 0.3, 0.4), 1000, f"{STRENGTHS}, upper half is 0.006"),
        ((0.01, 0.02, 0.03, 0.04, 0.05, 0.2, 0.3, 0.4), 10, f"{STRENGTHS}, upper half is 0.1"),
        ((0.1, 0.2, 0.9, 0.95), 20, f"{STRENGTHS}, lower half is 0.9, and 0.6 is the most"),
        ((0.1, 0.2, 0.35, 0.5), 10, None),
    ],
)
def test_a_heap_of_copies_from_hardly_any_noise_is_no_self_test(strengths, steps, why):
    told = short_of_strengths(SelfTestConfig(strengths=strengths, num_inference_steps=steps))
    assert why in told[0] if why else told == []


@pytest.mark.parametrize("name", [None, *get_args(Preset), "demo", "nih64", "stable_diffusion"])
def test_what_comes_with_the_package_is_strict_enough(name, monkeypatch):
    monkeypatch.setenv("RAYDISTILL_NIH64", "x.parquet")
    monkeypatch.setenv("RAYDISTILL_COHORT", "x.parquet")
    preset = [f"preset={name}"] if name in get_args(Preset) else []
    config = load_config(None if preset or name is None else f"jobs/{name}.yaml", preset)
    assert short_of_method(config.evidence, config.ingest.prompts.k) == []


def test_an_attack_is_as_large_as_was_judged_whatever_was_configured(tmp_path):
    """Of `per_prompt` nobody knows beforehand what it comes to."""
    asked = {"student_samples": {"num_samples": 1, "requests": {"per_prompt": 100}}}
    assert decide(tmp_path / "twice", measured=asked)[0]["verdict"] == "pass"
    harder = {"attacked_excess_risk": result(0.0, -0.02, 0.03, n=180)}
    verdict, _ = decide(tmp_path / "fewer", student=harder, measured=asked)
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0] == (
        "The attack is too small for any claim: 180 of its samples were judged beside 100 that were asked for as "
        "usual, and 200 are needed: set attack.num_samples, those of each way, to 50."
    )
    few_failed = {"attacked_excess_risk": result(0.0, -0.02, 0.03, n=195)}
    assert decide(tmp_path / "failed", student=few_failed)[0]["verdict"] == "pass"
    useless = asked | {"attack": {"guidance_scales": [1.0, 4.0, 999.0], "num_samples": 50}}
    assert "150 of its samples" in decide(tmp_path / "useless", measured=useless)[0]["reasons"][0]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((f"membership{way}_{area}", "harder for the model") for way in ("", "_calibrated") for area in ("auc", "patient_auc")),
        ("closer_to_train_excess", "keep further from train patients"),
        ("attacked_closer_to_train_excess", "keep further from train patients"),
    ],
)  # fmt: skip
def test_who_is_told_by_absence_is_betrayed_too(tmp_path, name, why):
    least = 0.4 if "membership" in name else -0.1
    proven, unproven = (tuple(least + np.array(off)) for off in ((-0.2, -0.3, -0.05), (-0.05, -0.12, 0.02)))
    verdict, _ = decide(tmp_path / "absent", student={name: proven})
    assert verdict["verdict"] == "insufficient_evidence"
    assert verdict["reasons"][0].startswith(f"{name} is ")
    assert f"all of it under {least:g}: " in verdict["reasons"][0]
    assert why in verdict["reasons"][0]
    assert decide(tmp_path / "unproven", student={name: unproven})[0]["verdict"] == "pass"


@pytest.mark.parametrize("role", ["train", "calibration", "evaluation"])
def test_nothing_passes_on_a_role_of_which_no_certificate_can_tell(tmp_path, role):
    people = {**COHORT["patients"], "calibration": 20, "evaluation": 30}
    for patients, expected in ((10, "insufficient_evidence"), (11, "pass")):
        cohort = COHORT | {"images": dict.fromkeys(people, 60), "patients": people | {role: patients}}
        verdict, _ = decide(tmp_path / expected, cohort=cohort)
        assert verdict["verdict"] == expected
        assert ("no certificate can tell" in verdict["reasons"][0]) is (patients == 10)


def test_how_it_was_measured_is_told_without_where(tmp_path):
    weights, private = tmp_path / "ward7", "/data/ward7/patients.csv"
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(weights)
    own = {"mine": {"factory": "ours.metrics:Mine", "options": {"table": private}}}
    measured = {"evaluate": {"encoder": {"pretrained": str(weights)}, "metrics": own}}
    asked = {"student_samples": {"requests": {"table": private}}}
    _, certificate = decide(tmp_path / "run", measured=measured | asked)
    assert "ward7" not in repr(certificate)
    told = certificate["settings"]["evaluate"]
    assert told["encoder"]["pretrained"] == "a local folder"
    assert len(told["encoder"]["sha256"]) == 64
    assert told["metrics"] == {"mine": {"factory": "ours.metrics:Mine"}}
    assert certificate["settings"]["prompts"]["k"] == 5


def test_students_that_were_evaluated_before_are_counted(tmp_path):
    decide(tmp_path / "run")
    (tmp_path / "run" / "another").mkdir()
    beside = sum(entry.is_dir() for entry in (tmp_path / "run").iterdir())
    verdict, certificate = decide(tmp_path / "run", fresh=False)
    assert verdict["evaluations"] == certificate["evaluations"] == beside
    assert verdict["decisions"] == certificate["decisions"] == beside


def test_without_a_student_there_is_a_verdict_all_the_same(tmp_path):
    verdict, certificate = decide(tmp_path, skipped="the filter kept no sample")
    reasons = ["There is no student to release: the filter kept no sample."]
    assert (verdict["verdict"], verdict["reasons"], verdict["checks"]) == ("fail", reasons, [])
    assert certificate["verdict"] == "fail"


def gate(**told):
    config = Config(release=told)
    node = ReleaseNodeConfig(release=config.release, evidence=config.evidence, prompts=config.ingest.prompts)
    return config, Release("decision", node, {}, 0)


def test_a_licence_that_cannot_be_read_is_refused_before_anything_runs(tmp_path):
    config, stage = gate(licence_text=str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match=r"release\.licence_text: .*none\.txt can't be read"):
        stage.check(config)


def test_whether_and_how_a_bundle_is_packed_is_no_part_of_a_decision(tmp_path):
    plain, packed = (
        gate(**told)[1]
        for told in ({}, {"licence": "CC0-1.0", "more_formats": ("webdataset",), "release_anyway": True})
    )
    assert packed.key_config() == plain.key_config()
    assert gate(allow_private_weights=True)[1].key_config() != plain.key_config()
