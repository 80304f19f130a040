"""What the rule hides is hidden everywhere: no released byte holds the number of a hidden metric, or of its check."""

import json
import re

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transformers import ResNetConfig, ResNetModel

from raydistill.core.config import Config
from raydistill.core.manifest import digest_files
from raydistill.metrics.patients import EXCESS, HIT_TIMES
from raydistill.metrics.result import Check, MetricResult, judge
from raydistill.report.bundle import publish
from raydistill.report.certified import CERTIFICATE
from raydistill.report.html import render
from raydistill.report.numbers import show
from raydistill.report.outside import BOUND_OF_K, WITHHELD, is_hidden, summary_outside
from tests.report.builder import build
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("without_plotly")
KEY = "0123456789abcdef"
ANYWAY = Config(name="phantom", release={"release_anyway": True, "more_formats": ["webdataset", "image_folder"]})
GROUPS = ("student", "selftest", "filter", "teacher", "filtered", "real", "tune", "search")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build(tmp_path_factory.mktemp("run"), ANYWAY, verdict="fail")


def decided(runner, summary, checks):
    """Let a run's decision be that of these checks; return its summary then."""
    verdict, reasons = judge(checks)
    folder = runner.artifact("decision", KEY)
    certificate = folder.read_json("certificate.json") | {"verdict": verdict, "reasons": reasons}
    folder.write_json("certificate.json", certificate)
    held = [check.model_dump(mode="json") for check in checks]
    folder.write_json("verdict.json", {"verdict": verdict, "reasons": reasons, "checks": held})
    files = [entry for entry in folder.fingerprint() if entry.path != "manifest.json"]
    changed = {"files": files, "digest": digest_files(files)}
    runner.manifests["decision"] = runner.manifests["decision"].model_copy(update=changed)
    return summary | {"verdict": verdict, "reasons": reasons}


def with_metric(summary, name, result):
    metrics = summary["metrics"]
    return summary | {"metrics": metrics | {"student": metrics["student"] | {name: result.model_dump(mode="json")}}}


def everything(run):
    """Return the text of every file that leaves, and of the certificate in the run folder."""
    texts = {name: (run / "release").read_bytes(name) for name in (run / "release").files()}
    for name in [name for name in texts if name.endswith(".parquet")]:
        texts[f"{name}, its rows"] = repr(pq.read_table((run / "release" / name).path).to_pylist()).encode()
    return {
        name: text.decode(errors="replace")
        for name, text in {**texts, CERTIFICATE: run.read_bytes(CERTIFICATE)}.items()
    }


def holds(text, number):
    forms = {repr(number), f"{number:.4g}", show(number), show(number, "share")}
    return any(re.search(rf"(?<![\d.]){re.escape(form)}(?![\d])", text) for form in forms)


FEW = [*(f"patients_hit_{k}" for k in HIT_TIMES), EXCESS]
DOCUMENTS = ("README.md", "student/README.md", "report.html", CERTIFICATE)


@pytest.mark.parametrize(
    ("kind", "low", "high", "ending"),
    [
        ("unproven", -0.09137, 0.78913, "passes its test of proof"),
        ("unproven", 0.00217, 0.78913, "fails its test of proof"),
        ("max", -0.09137, 0.78913, "is too uncertain for its budget"),
        ("max", -0.09137, 0.00019, "keeps its budget"),
    ],
)
def test_the_check_of_a_metric_that_counts_few_tells_how_it_ended_and_no_number(whole, kind, low, high, ending):
    runner, summary = whole
    other = Check(metric="student.excess_risk", value=0.0231, interval=(0.0117, 0.0423), budget=0.05, kind="max")
    checks, numbers = [other], {low, high, 0.020619}
    for hit, name in enumerate(FEW, start=1):
        about = {"unit": "share of patients", "estimator": f"{hit} of 97 patients", "note": f"{hit} of 97 were hit"}
        result = MetricResult(value=hit / 97, interval=(low, high), control=0.020619, n=97, confidence=0.987, **about)
        summary, numbers = with_metric(summary, name, result), {*numbers, hit / 97}
        checks.append(Check.of(f"student.{name}", result, 0.001, kind))
    summary = decided(runner, summary, checks)
    publish(runner, summary)
    for file, text in everything(runner.run).items():
        assert not [number for number in numbers if holds(text, number)], file
        assert "of 97" not in text
        for name in FEW if file in DOCUMENTS else ():
            assert f"student.{name} {ending}; its number is {WITHHELD}." in " ".join(text.split()), file
        assert file not in DOCUMENTS or other.reason in text, file
    inside = render(runner, summary, public=False)
    assert all(holds(inside, number) for number in numbers)
    assert WITHHELD not in inside


@pytest.mark.parametrize(
    "stale", ["student.patients_hit_5 is 0.03093 and was told otherwise once.", "See student.patients_hit_5: 0.03093"]
)
def test_an_older_sentence_that_names_a_hidden_metric_is_replaced_too(whole, stale):
    runner, summary = whole
    few = MetricResult(value=3 / 97, n=97, unit="share of patients", estimator="count")
    summary = with_metric(decided(runner, summary, []), "patients_hit_5", few)
    beside = "student.patients_hit_50 is something else."
    reasons = summary_outside(runner, summary | {"reasons": [stale, beside]})["reasons"]
    assert reasons == [f"student.patients_hit_5: {WITHHELD}.", beside]


def numbered(runner, summary):
    """Give every metric numbers of its own, which stand nowhere else; in its artifact and its check too."""
    metrics, numbers = {}, (whole + tenth / 10 for whole in range(200, 999) for tenth in range(1, 10))
    for group in GROUPS:
        metrics[group] = {}
        for name, result in summary["metrics"][group].items():
            value, low, high, control = (next(numbers) for _ in range(4))
            other = {"value": value, "interval": [low, high], "control": control, "note": f"of {control}"}
            metrics[group][name] = result | other | {"unit": "points"}
    agreement = [{"among": "planted", "eyes": ["filter", "judge"], "both": 8, "either": 20, "n": 47, "kappa": 0.3}]
    agreement[0] |= {"jaccard": metrics["selftest"]["consistency_jaccard"]["value"]}
    runner.artifact("selftest", KEY).write_json("agreement/agreement.json", agreement)
    results = {
        f"{group}.{name}": MetricResult.model_validate(result)
        for group in ("student", "selftest")
        for name, result in metrics[group].items()
    }
    checks = [Check.of(name, result, 1e4, "max") for name, result in results.items()]
    return decided(runner, summary | {"metrics": metrics}, checks)


@pytest.mark.parametrize("role", ["train", "probe", "calibration", "evaluation", None])
def test_no_released_byte_holds_a_number_of_a_hidden_metric(tmp_path, role):
    runner, summary = build(tmp_path, ANYWAY)
    facts = runner.manifests["ingest"].facts
    facts = facts | {"patients": facts["patients"] | ({role: 9} if role else {})}
    runner.manifests["ingest"] = runner.manifests["ingest"].model_copy(update={"facts": facts})
    summary = numbered(runner, summary)
    publish(runner, summary)
    told, seen = summary_outside(runner, summary)["metrics"], {True: 0, False: 0}
    files = everything(runner.run)
    for group, results in summary["metrics"].items():
        for name, result in results.items():
            hidden = is_hidden(told[group][name])
            seen[hidden] += 1
            numbers = [result["value"], *result["interval"], result["control"]]
            where = [file for file, text in files.items() for n in numbers if holds(text, n)]
            assert not (hidden and where), (group, name, where)
            assert hidden or group == "search" or "." in name or holds(files["report.html"], result["value"]), (
                group,
                name,
            )
    assert bool(seen[True]) is bool(role)
    assert seen[False]


PATH = "WARD-SEVEN"


def test_no_released_byte_holds_a_path_of_this_machine(tmp_path):
    """Every place of the configuration that can hold one does."""
    weights, place = tmp_path / PATH / "weights", f"/home/alice/{PATH}"
    network = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))
    for folder in (weights, weights / "filter", weights / "judge"):
        network.save_pretrained(folder)
    own = {"factory": "ours.own:Part", "options": {"table": f"{place}/patients.csv"}}
    asked = {"requests": {"table": f"{place}/prompts.csv"}}
    eyes = {
        name: {"seed": seed, "backbone": {"pretrained": f"{weights}/{name}"}}
        for name, seed in (("filter", 1), ("judge", 2))
    }
    config = Config(
        name="phantom",
        source={"kind": "parquet", "path": f"{place}/cohort.parquet"},
        eyes={**eyes, "auditor": {"seed": 3, "embedder": own}},
        teacher={"pretrained": f"{place}/diffusion"},
        student={"pretrained": f"{place}/diffusion"},
        teacher_samples=asked,
        student_samples=asked,
        filter={"policy": own},
        evaluate={"encoder": {"pretrained": str(weights)}, "metrics": {"mine": own}},
        release={
            "release_anyway": True,
            "signing_key": str(tmp_path / PATH / "key.pem"),
            "licence_text": str(tmp_path / PATH / "terms.txt"),
        },
        tracking={"wandb": {"dir": place}, "mlflow": {"tracking_uri": place}},
    )
    (tmp_path / PATH / "key.pem").write_bytes(private_key())
    (tmp_path / PATH / "terms.txt").write_text("Ask the board.")
    runner, summary = build(tmp_path / "run", config)
    publish(runner, summary)
    assert "ours.own:Part" in everything(runner.run)[CERTIFICATE]
    assert not [file for file, text in everything(runner.run).items() if PATH in text]


def private_key():
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(*kinds)


def test_withheld_is_not_lack_of_evidence(whole):
    runner, summary = whole
    few = MetricResult(value=3 / 97, interval=(0.0, 0.1), n=97, unit="share of patients", estimator="count")
    summary = with_metric(summary, EXCESS, few)
    summary = decided(runner, summary, [Check.of(f"student.{EXCESS}", few, 0.0, "unproven")])
    page = Page(render(runner, summary, public=True))
    assert "not showna group of fewer than 11 images or patients stands behind it" in page.text("metrics")
    assert "not shown" in page.text("summary")
    assert "insufficienta group" not in page.text() + page.text("metrics")


@pytest.mark.parametrize(
    ("k", "measured", "told"), [(5, 5, 5), (5, 9, 5), (5, 11, 11), (5, 3, None), (20, 25, 25), (2, 10, 2)]
)
def test_of_a_rare_prompt_the_configured_bound_is_told_and_no_smaller_count(tmp_path, k, measured, told):
    config = Config(name="phantom", ingest={"prompts": {"k": k}}, release={"release_anyway": True})
    runner, summary = build(tmp_path, config)
    note = f"28 prompts, {measured} as rare as this"
    found = MetricResult(
        value=measured, interval=(measured, measured), n=48, unit="train patients", estimator="minimum", note=note
    )
    summary = with_metric(summary, "prompt_k", found)
    outside = summary_outside(runner, summary)["metrics"]["student"]["prompt_k"]
    assert outside["value"] == told
    assert (outside["note"] == note) is (measured == told and measured > 10)
    check = Check.of("student.prompt_k", found, k, "min")
    summary = decided(runner, summary, [check])
    publish(runner, summary)
    ending = "keeps its budget" if measured >= k else "breaks its budget"
    bound = f"student.prompt_k is at least {k} and {ending}; {BOUND_OF_K}."
    said = bound if told else f"student.prompt_k {ending}; its number is {WITHHELD}."
    said = check.reason if told == measured > 10 else said
    assert json.loads(runner.run.read_bytes(CERTIFICATE))["reasons"] == [said]
    assert said in Page((runner.run / "release").read_bytes("report.html").decode()).text("summary")
    card = " ".join((runner.run / "release").read_bytes("README.md").decode().split())
    assert f"at least {k} of its patients share" in card
    assert "`ingest.prompts.k`" in card


def test_the_released_certificate_is_that_of_the_run_folder(whole):
    runner, summary = whole
    publish(runner, summary)
    assert json.loads(runner.run.read_bytes(CERTIFICATE))["cohort"]["train"] == {"images": 60, "patients": 30}
    assert (runner.run / "release").read_bytes(CERTIFICATE) == runner.run.read_bytes(CERTIFICATE)


def test_few_people_of_a_role_are_not_counted_in_a_certificate(tmp_path):
    runner, summary = build(tmp_path, ANYWAY)
    facts = runner.manifests["ingest"].facts
    facts = facts | {"patients": facts["patients"] | {"probe": 9}}
    runner.manifests["ingest"] = runner.manifests["ingest"].model_copy(update={"facts": facts})
    folder = runner.artifact("decision", KEY)
    certificate = folder.read_json("certificate.json")
    certificate["cohort"]["probe"]["patients"] = 9
    folder.write_json("certificate.json", certificate)
    files = [entry for entry in folder.fingerprint() if entry.path != "manifest.json"]
    runner.manifests["decision"] = runner.manifests["decision"].model_copy(update={"files": files})
    publish(runner, summary)
    told = json.loads(runner.run.read_bytes(CERTIFICATE))["cohort"]
    assert told == certificate["cohort"] | {"probe": {"images": 22, "patients": "fewer than 11"}}
