"""The search on the page: the frontier, every setting at once, and which setting matters."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from raydistill.report.evidence import Evidence
from raydistill.report.figures import INK, VERMILION, Cell, Figure, layout, vertical
from raydistill.report.plots import bars

LEAST_SPAN = 0.1
"""Of an axis of utility: settings that hardly differ must not look far apart."""

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
    "risk_high": "excess risk, upper bound",
    "near_copies_high": "near-copies, upper bound",
}
"""What a trial measures, in words."""

TRIAL = (*SETTINGS, *MEASURED, "networks", "risk", "feasible", "pareto", "chosen", "dropped")
"""Columns of the search's table of trials that are read, where they are there."""

LOGARITHMIC = ("target_fpir", "near_copy_fpir", "patient_quota", "prompt_patients")

Trials = Sequence[Mapping[str, Cell]]

CHOSEN = {
    "student_utility": "It was chosen by networks that learned from samples of short students of the best settings",
    "network_utility": "It was chosen by networks that learned from what the best settings keep",
}
"""How the setting was chosen, by what was measured last."""


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
    none = "" if any(t.get("feasible") for t in trials) else " No setting kept every bound; this one comes nearest."
    chosen_by = _chosen_by(trials)
    how = f" {chosen_by}, not by the height here; see the numbers." if chosen_by else ""
    caption = (
        "Every filter setting that was tried: the judge's excess risk of what it keeps (upper bound) against the AUROC "
        "on calibration patients of a probe trained on it. Crosses break a bound, diamonds are on the Pareto front: no "
        "other is as good in utility, risk and share kept at once. The ring is the setting that was chosen."
        + how
        + none
    )
    known = [t for t in trials if _finite(t.get("risk_high"))]
    height = "utility" if any(_finite(t.get("utility")) for t in known) else "kept_share"
    known = [t for t in known if _finite(t.get(height))]
    plot = go.Figure()
    plot.add_scatter(
        x=[t["risk_high"] for t in known], y=[t[height] for t in known], mode="markers", showlegend=False,
        customdata=[_hover(t) for t in known], hovertemplate="%{customdata}<extra></extra>",
        meta=None if public else {"dropped": [t.get("dropped") or [] for t in known]},
        marker={
            "size": 13, "color": [t.get("kept_share") for t in known], "colorscale": "Cividis",
            "cmin": 0, "cmax": 1, "symbol": [_symbol(t) for t in known],
            "line": {"width": [1 if t.get("feasible") else 3 for t in known], "color": INK},
            "colorbar": {"title": {"text": "kept<br> "}, "thickness": 10, "tickformat": ".0%", "outlinewidth": 0},
        },
    )  # fmt: skip
    chosen = [t for t in known if t.get("chosen")]
    plot.add_scatter(
        x=[t["risk_high"] for t in chosen], y=[t[height] for t in chosen], mode="markers", name="chosen",
        marker={"size": 24, "symbol": "circle-open", "color": VERMILION, "line": {"width": 3}}, hoverinfo="skip",
    )  # fmt: skip
    layout(plot, 340)
    plot.update_xaxes(title_text="judge's excess risk, upper bound")
    axis = {"utility": "findings AUROC", "kept_share": "share kept (no AUROC could be measured)"}[height]
    plot.update_yaxes(title_text=axis, range=_around([float(str(t[height])) for t in known]))
    vertical(plot, {"allowed": evidence.artifacts.config.tune.max_excess_risk})
    shown = [name for name in TRIAL if name != "dropped" and any(name in t for t in trials)]
    rows = [[_number(t.get(column)) for column in shown] for t in trials]
    drawn = Figure("frontier", "Privacy against utility", caption, plot, shown, rows)
    return drawn.read_from(evidence.path("tune", "trials"))


def parallel(evidence: Evidence) -> Figure | None:
    """Draw every trial as a line across its settings and what they came to; None where only one thing varies."""
    trials = [t for t in read_trials(evidence) if all(_finite(t.get(name)) for name in ("risk_high", "kept_share"))]
    columns = {name: [t.get(name) for t in trials] for name in (*SETTINGS, *MEASURED)}
    drawn = {
        name: [float(str(value)) for value in values]
        for name, values in columns.items()
        if all(map(_finite, values)) and len(set(values)) > 1
    }
    if len(drawn) < 2:
        return None
    last = next((name for name in ("utility", "kept_share") if name in drawn), list(drawn)[-1])
    words, places = SETTINGS | MEASURED, {name: _placed(name, values) for name, values in drawn.items()}
    colours = sample_colorscale("Cividis", places[last])
    plot = go.Figure()
    # The chosen one last, on top of the others. Lines and not `parcoords`, which needs WebGL and can't be printed.
    for row in sorted(range(len(trials)), key=lambda row: bool(trials[row].get("chosen"))):
        is_chosen = bool(trials[row].get("chosen"))
        plot.add_scatter(
            x=list(range(len(drawn))), y=[places[name][row] for name in drawn], mode="lines", name="chosen",
            line={"color": VERMILION if is_chosen else colours[row], "width": 4 if is_chosen else 1.5},
            text=_hover(trials[row]), hovertemplate="%{text}<extra></extra>", showlegend=is_chosen,
        )  # fmt: skip
    layout(plot, 250)
    plot.update_xaxes(tickvals=list(range(len(drawn))), ticktext=[words[name] for name in drawn], showgrid=True)
    plot.update_xaxes(range=[-0.4, len(drawn) - 0.6])
    plot.update_yaxes(visible=False, range=[-0.12, 1.12])
    for place, values in enumerate(drawn.values()):
        for end, shift in ((min(values), -0.07), (max(values), 1.07)):
            plot.add_annotation(x=place, y=shift, text=f"{end:.3g}", showarrow=False, font={"size": 12})
    caption = (
        f"One line a setting, the darker the lower in {words[last]}. Each axis runs from the smallest to the largest "
        "value, those of error rates logarithmically. The thick line is the setting that was chosen."
        + (f" {chosen_by}." if (chosen_by := _chosen_by(trials)) else "")
    )
    rows = list(zip(*drawn.values(), strict=True))
    figure = Figure("parallel", "Every setting at once", caption, plot, [words[name] for name in drawn], rows)
    return figure.read_from(evidence.path("tune", "trials"))


def importances(evidence: Evidence) -> Figure | None:
    """Draw how much of the objective's variation each setting explains; None with nothing to tell apart."""
    table = evidence.table("tune", "importances", ("setting", "importance"))
    if table is None or table.num_rows < 2:
        return None
    shares = {SETTINGS[row["setting"]]: row["importance"] for row in table.to_pylist()}
    caption = (
        "How much of the variation of what the search maximises goes with each setting (fANOVA, Hutter et al. 2014). "
        "Of few trials this is rough, and where settings hardly differ it is a share of next to nothing."
    )
    drawn = bars(
        "importances", "Which setting matters", caption, shares, ("setting", "importance"),
        unit="share of the variation explained", percent=True,
    )  # fmt: skip
    return drawn.read_from(evidence.path("tune", "importances"))


def _placed(name: str, values: Sequence[float]) -> list[float]:
    """Return where values lie between their smallest, 0, and their largest, 1."""
    scaled = np.log(values) if name in LOGARITHMIC else np.asarray(values)
    share: list[float] = ((scaled - scaled.min()) / np.ptp(scaled)).round(4).tolist()
    return share


def _chosen_by(trials: Trials) -> str:
    """Say how the setting was chosen where it wasn't by what every trial measures."""
    return next((said for name, said in CHOSEN.items() if any(_finite(trial.get(name)) for trial in trials)), "")


def _symbol(trial: Mapping[str, Cell]) -> str:
    if not trial.get("feasible"):
        return "x-thin-open"
    return "diamond" if trial.get("pareto") else "circle"


def _hover(trial: Mapping[str, Cell]) -> str:
    said = [(words, trial.get(name)) for name, words in (SETTINGS | MEASURED).items()]
    return "<br>".join(f"{words}: {float(str(value)):.3g}" for words, value in said if _finite(value))


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: Cell) -> Cell:
    """Turn a number that isn't one, as Parquet keeps what a trial couldn't measure, into None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _around(values: Sequence[float]) -> list[float] | None:
    """Return a range that holds all values with some room, and isn't narrower than `LEAST_SPAN`."""
    if not values:
        return None
    room = max(0.1 * (max(values) - min(values)), (LEAST_SPAN - max(values) + min(values)) / 2)
    return [min(values) - room, max(values) + room]
