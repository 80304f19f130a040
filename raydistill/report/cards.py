"""Model card and data set card in Hugging Face form: YAML front matter, then what a user must know."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from raydistill.core.config import Config

SHOWN = ("excess_risk", "reidentification_rate", "control_rate", "near_copy_rate", "membership_auc", "utility_auroc")

LIMITS = (
    "No formal guarantee: the attacks that were run found what is stated below, others may find more. Not for "
    "diagnosis. The networks that judged were trained on this cohort alone."
)


def model_card(config: Config, summary: Mapping[str, Any], touched: Sequence[str]) -> str:
    """Return the student's card.

    Args:
        config: the run's configuration.
        summary: the run's summary.
        touched: the ways in which the student has touched real data, by its certificate; none is the rule.
    """
    front: dict[str, Any] = {
        "license": config.release.licence,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
    }
    front["tags"] = ["privacy-distillation", "synthetic"]
    trained = (
        "on filtered synthetic images only" if not touched else f"; it has touched real data: {'; '.join(touched)}"
    )
    about = (
        f"A text-to-image model trained by privacy distillation (arXiv 2306.01322) {trained}. "
        "Load it with `diffusers.DiffusionPipeline.from_pretrained`."
    )
    return _card(front, f"{config.name}: student", about, summary)


def data_card(config: Config, summary: Mapping[str, Any]) -> str:
    """Return the synthetic data set's card.

    Args:
        config: the run's configuration.
        summary: the run's summary.
    """
    front: dict[str, Any] = {"license": config.release.licence, "tags": ["privacy-distillation", "synthetic"]}
    front["configs"] = [{"config_name": "default", "data_files": "data/*.parquet"}]
    about = "Images sampled from the student and kept by the re-identification filter; the student is beside them."
    return _card(front, f"{config.name}: synthetic images", about, summary)


def _card(front: Mapping[str, Any], title: str, about: str, summary: Mapping[str, Any]) -> str:
    warning = ""
    if summary["verdict"] != "pass":
        warning = f"> **Released against the verdict `{summary['verdict']}`.** {' '.join(summary['reasons'])}\n\n"
    rows = "\n".join(_row(name, summary["metrics"]["student"][name]) for name in SHOWN)
    table = f"| metric | value | interval | control | n |\n|---|---|---|---|---|\n{rows}\n"
    header = f"---\n{yaml.safe_dump(dict(front), sort_keys=False)}---\n\n# {title}\n\n"
    return f"{header}{warning}{about}\n\n## Limits\n\n{LIMITS}\n\n## Evidence\n\n{table}"


def _row(name: str, metric: Mapping[str, Any]) -> str:
    interval = "–" if metric["interval"] is None else " to ".join(f"{edge:.4g}" for edge in metric["interval"])
    value, control = ("–" if metric[key] is None else f"{metric[key]:.4g}" for key in ("value", "control"))
    return f"| {name} | {value} | {interval} | {control} | {metric['n']} |"
