"""Model card and data set card in Hugging Face form: metadata for machines, then what a user must know."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from raydistill import __version__
from raydistill.core.licence import Licence
from raydistill.report.dataset import DATA, Packed
from raydistill.report.evidence import Artifacts, Evidence
from raydistill.report.html import environment
from raydistill.report.judged import standing
from raydistill.report.outside import count_outside, summary_outside
from raydistill.report.verdict import banner
from raydistill.report.words import LIMITS, is_one_treatment, title

TAGS = ["privacy-distillation", "synthetic", "medical"]
TEXT_TO_IMAGE = "text-to-image"

Certificate = Mapping[str, Any]
"""The content of certificate.json."""


def data_set_name(artifacts: Artifacts) -> str:
    """Return the synthetic data set's name for people."""
    return f"{artifacts.config.name} synthetic images"


def description(artifacts: Artifacts, summary: Mapping[str, Any]) -> str:
    """Say in a paragraph what the data set is, first whether it was released against the verdict.

    Args:
        artifacts: a finished run.
        summary: its summary.
    """
    summary = summary_outside(artifacts, summary)
    found = banner(summary, standing(Evidence(artifacts), summary))
    against = f'Released against the verdict "{found.word}". ' if summary["verdict"] != "pass" else ""
    return (
        f"{against}Synthetic images with prompts and labels, made by privacy distillation with raydistill "
        f"{__version__}. Verdict: {found.word}. {found.sentence}"
    )


def model_card(artifacts: Artifacts, summary: Mapping[str, Any], certificate: Certificate, licence: Licence) -> str:
    """Return the student's card.

    Args:
        artifacts: a finished run.
        summary: its summary.
        certificate: what was decided, and what the student has touched.
        licence: of the bundle.
    """
    name, summary = f"{artifacts.config.name} student", summary_outside(artifacts, summary)
    front = ModelCardData(
        **licence.front_matter,
        library_name="diffusers",
        pipeline_tag=TEXT_TO_IMAGE,
        language="en",
        tags=TAGS,
        model_name=name,
        eval_results=_eval_results(artifacts.config.name, summary) or None,
    )
    text = _render("model_card.md.j2", artifacts, summary, certificate, name=name)
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n{text}"))


def data_card(
    artifacts: Artifacts, summary: Mapping[str, Any], certificate: Certificate, licence: Licence, packed: Packed
) -> str:
    """Return the synthetic data set's card, which is also the bundle's README.

    Args:
        artifacts: as for `model_card`, and so are the others.
        summary: its summary.
        certificate: what was decided.
        licence: of the bundle.
        packed: the data set's Parquet files.
    """
    name, summary = data_set_name(artifacts), summary_outside(artifacts, summary)
    front = DatasetCardData(
        **licence.front_matter,
        language="en",
        pretty_name=name,
        tags=TAGS,
        task_categories=[TEXT_TO_IMAGE, "image-classification"],
        annotations_creators="machine-generated",
        size_categories=_size_category(packed.rows),
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": f"{DATA}/*.parquet"}]}],
        dataset_info=packed.dataset_info,
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
        banner=banner(summary, standing(Evidence(artifacts), summary)),
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


def _size_category(rows: int) -> str:
    """Return the hub's word for a number of rows."""
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = sum(rows >= 1000 * 10**power for power in range(len(bounds)))
    if place in (0, len(bounds)):
        return f"n<{bounds[0]}" if place == 0 else f"n>{bounds[-1]}"
    return f"{bounds[place - 1]}<n<{bounds[place]}"


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
