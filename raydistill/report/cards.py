"""Model card and data set card in Hugging Face form: metadata for machines, then what a user must know."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from raydistill import __version__
from raydistill.report.evidence import Artifacts
from raydistill.report.html import environment
from raydistill.report.outside import count_outside, summary_outside
from raydistill.report.verdict import banner
from raydistill.report.words import LIMITS, is_one_treatment, title

TAGS = ["privacy-distillation", "synthetic", "medical"]
TEXT_TO_IMAGE = "text-to-image"

Certificate = Mapping[str, Any]
"""The content of certificate.json."""


def model_card(artifacts: Artifacts, summary: Mapping[str, Any], certificate: Certificate) -> str:
    """Return the student's card.

    Args:
        artifacts: a finished run.
        summary: its summary.
        certificate: what was decided, and what the student has touched.
    """
    name, summary = f"{artifacts.config.name} student", summary_outside(artifacts, summary)
    front = ModelCardData(
        license=artifacts.config.release.licence,
        library_name="diffusers",
        pipeline_tag=TEXT_TO_IMAGE,
        language="en",
        tags=TAGS,
        model_name=name,
        eval_results=_eval_results(artifacts.config.name, summary) or None,
    )
    text = _render("model_card.md.j2", artifacts, summary, certificate, name=name)
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n{text}"))


def data_card(artifacts: Artifacts, summary: Mapping[str, Any], certificate: Certificate) -> str:
    """Return the synthetic data set's card, which is also the bundle's README; arguments as for `model_card`."""
    name, summary = f"{artifacts.config.name} synthetic images", summary_outside(artifacts, summary)
    front = DatasetCardData(
        license=artifacts.config.release.licence,
        language="en",
        pretty_name=name,
        tags=TAGS,
        task_categories=[TEXT_TO_IMAGE, "image-classification"],
        annotations_creators="machine-generated",
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    )
    text = _render("data_card.md.j2", artifacts, summary, certificate, name=name)
    return str(DatasetCard(f"---\n{front.to_yaml()}\n---\n{text}"))


def _render(
    template: str, artifacts: Artifacts, summary: Mapping[str, Any], certificate: Certificate, *, name: str
) -> str:
    manifests, metrics = artifacts.manifests, summary["metrics"]
    overall = {key: result for key, result in metrics["selftest"].items() if not is_one_treatment(key)}
    return environment().get_template(template).render(
        name=name,
        version=__version__,
        config=artifacts.config,
        verdict=summary["verdict"],
        banner=banner(summary),
        against=summary["verdict"] != "pass",
        reasons=summary["reasons"],
        certificate=certificate,
        metrics=[(title(key).name, result) for key, result in metrics["student"].items()],
        selftest=[(title(key).name, result) for key, result in overall.items()],
        real=metrics["real"].get("utility_auroc"),
        counts={
            node: {name: count_outside(count) for name, count in manifest.counts.items()}
            for node, manifest in manifests.items()
        },
        limits=LIMITS,
    )  # fmt: skip


def _eval_results(name: str, summary: Mapping[str, Any]) -> list[EvalResult]:
    """Put the student's metrics, with interval, n and control, where model hubs look for them."""
    return [
        EvalResult(
            task_type=TEXT_TO_IMAGE,
            dataset_type="private",
            dataset_name=f"evaluation patients of {name}",
            metric_type=key,
            metric_name=title(key).name,
            metric_value=result["value"],
            metric_args={part: result[part] for part in ("interval", "confidence", "n", "unit", "control")},
        )
        for key, result in summary["metrics"]["student"].items()
        if result["value"] is not None
    ]
