"""The search on the page: every trial by its risk and its utility."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raydistill.report.evidence import Evidence
from raydistill.report.figures import INK, VERMILION, Cell, Figure, layout, vertical
from raydistill.stages.outcomes import BOUNDS, BREAKS, SET_BY, broken, broken_in_words, different, outcomes_in_words

LEAST_SPAN = 0.1
"""Of an axis of what is measured: settings that hardly differ must not look far apart."""

SETTINGS = {
    "target_fpir": "FPIR, identity",
    "near_copy_fpir": "FPIR, near-copies",
    "patient_quota": "samples a patient",
    "balance": "balance",
    "prompt_patients": "patients a prompt",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
}
"""What a trial sets, in words."""

MEASURED = {
    "kept_share": "share kept",
    "utility": "AUROC, probe",
    "network_utility": "AUROC, network",
    "student_utility": "AUROC, short student",
    "risk_high": "taken for a train patient, upper bound",
    "near_copies_high": "near-copies, upper bound",
}
"""What a trial measures, in words."""

DRAWN = {"agreement_utility": "AUROC, a network's, of settings drawn by chance"}
"""What tells whether probe and networks agree; nothing is chosen by it."""

BROKEN = tuple(BREAKS + bound for bound in BOUNDS)
TOLD = ("objective", "networks", "risk", "feasible", *BROKEN, "pareto", "chosen", "dropped")
TRIAL = (*SETTINGS, *MEASURED, *DRAWN, *TOLD)
"""Columns of the search's table of trials that are read, where they are there."""

Trials = Sequence[Mapping[str, Cell]]


def read_trials(evidence: Evidence) -> Trials:
    """Return the trials of the search; none where there is none."""
    table = evidence.table("tune", "trials", TRIAL)
    return [] if table is None else table.to_pylist()


def frontier(evidence: Evidence, *, public: bool) -> Figure | None:
    """Draw the trials: risk against utility, or the share kept where no utility was measured.

    Args:
        evidence: the run.
        public: leave out which samples a trial keeps.
    """
    trials = read_trials(evidence)
    if not trials:
        return None
    height = "utility" if any(is_number(t.get("utility")) for t in trials) else "kept_share"
    heights, ends, floor = _heights(trials, height)
    caption = (
        "Every filter setting that was tried: how much of what it keeps the judge takes for a train patient (upper "
        "bound) against the AUROC on calibration patients of a probe trained on it. Crosses break a bound, diamonds "
        "are on the Pareto front: no "
        "other is as good in utility, risk and share kept at once. The ring is the setting that was chosen."
        + _remarks(trials, height, why(evidence))
    )
    chosen = [row for row, t in enumerate(trials) if t.get("chosen")]
    panel = {"dropped": [t.get("dropped") or [] for t in trials], "chosen": next(iter(chosen), 0)}
    plot = go.Figure()
    plot.add_scatter(
        x=[t["risk_high"] for t in trials], y=heights, mode="markers", showlegend=False,
        customdata=[hover(t) for t in trials], hovertemplate="%{customdata}<extra></extra>",
        meta=None if public else panel,
        marker={
            "size": 13, "color": [t.get("kept_share") for t in trials], "colorscale": "Cividis",
            "cmin": 0, "cmax": 1, "symbol": [_symbol(t) for t in trials],
            "line": {"width": [1 if t.get("feasible") else 3 for t in trials], "color": INK},
            "colorbar": {"title": {"text": "kept<br> "}, "thickness": 10, "tickformat": ".0%", "outlinewidth": 0},
        },
    )  # fmt: skip
    plot.add_scatter(
        x=[trials[row]["risk_high"] for row in chosen], y=[heights[row] for row in chosen], mode="markers",
        name="chosen", hoverinfo="skip",
        marker={"size": 24, "symbol": "circle-open", "color": VERMILION, "line": {"width": 3}},
    )  # fmt: skip
    layout(plot, 340)
    plot.update_xaxes(title_text="share that the judge takes for a train patient, upper bound")
    axis = {"utility": "findings AUROC", "kept_share": "share kept (no AUROC could be measured)"}[height]
    plot.update_yaxes(title_text=axis, range=ends)
    if floor is not None:
        dots = {"color": INK, "width": 1, "dash": "dot"}
        plot.add_hline(y=floor, line=dots, annotation_text="no AUROC", annotation_position="bottom right")
    vertical(plot, {"allowed": evidence.artifacts.config.tune.max_reidentification_rate})
    shown = [name for name in TRIAL if name != "dropped" and any(name in t for t in trials)]
    rows = [[_number(t.get(column)) for column in shown] for t in trials]
    drawn = Figure("frontier", "Privacy against utility", caption, plot, shown, rows)
    return drawn.read_from(evidence.path("tune", "trials"))


def _heights(trials: Trials, height: str) -> tuple[list[Any], tuple[float, float], float | None]:
    """Return where trials stand, the range of the axis, and below which line those stand that have no height."""
    values = [trial.get(height) for trial in trials]
    low, high = span_of([float(str(value)) for value in values if is_number(value)])
    room = (high - low) / 10
    if all(map(is_number, values)):
        return values, (low - room, high + room), None
    foot = low - 2 * room
    return [value if is_number(value) else foot for value in values], (foot - room, high + room), foot + room


def _remarks(trials: Trials, height: str, chosen: str) -> str:
    """Say what isn't to be seen of the trials: why one was chosen, that nobody is left, what lies on one another."""
    table = pd.DataFrame([dict(trial) for trial in trials])
    found, bare, said = different(table), sum(not is_number(trial.get(height)) for trial in trials), ""
    said += f" It was {chosen}." if chosen else ""
    if not any(trial.get("feasible") for trial in trials):
        bounds = broken_in_words(broken(table), len(trials))
        said += f" No setting kept every bound{f' ({bounds})' if bounds else ''}; this one comes nearest."
    if found < len(trials):
        said += f" Points lie on one another: the {len(trials)} settings come to {outcomes_in_words(found)}."
    if bare:
        said += f" Below the dotted line stand {bare} of which no AUROC could be measured."
    return said


def why(evidence: Evidence) -> str:
    """Say why the setting was chosen, as the search does; nothing where no setting kept every bound."""
    manifest = evidence.artifacts.manifests.get("tune")
    return str(manifest.facts.get("why", "")) if manifest else ""


def _symbol(trial: Mapping[str, Cell]) -> str:
    if not trial.get("feasible"):
        return "x-thin-open"
    return "diamond" if trial.get("pareto") else "circle"


def hover(trial: Mapping[str, Cell]) -> str:
    """Tell a trial's setting, what it came to, and which bounds that breaks."""
    told = [(words, trial.get(name)) for name, words in (SETTINGS | MEASURED | DRAWN).items()]
    said = [f"{words}: {float(str(value)):.3g}" for words, value in told if is_number(value)]
    for bound, words in BOUNDS.items():
        by = trial.get(BREAKS + bound)
        if is_number(by) and (excess := float(str(by))) > 0:
            said.append(f"{words}, by {excess:.2g}" if bound in SET_BY else words)
    return "<br>".join(said)


def is_number(value: object) -> bool:
    """Whether something was measured: None, and NaN in a table, say that it couldn't be."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: Cell) -> Cell:
    """Turn a number that isn't one, as Parquet keeps what a trial couldn't measure, into None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds all values of what is measured, and isn't narrower than `LEAST_SPAN`."""
    room = max(0.0, (LEAST_SPAN - max(values) + min(values)) / 2)
    return min(values) - room, max(values) + room
