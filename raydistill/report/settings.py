"""Settings of the search on the page: all of them at once, and which one matters."""

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from raydistill.report.evidence import Evidence
from raydistill.report.figures import GREY, VERMILION, Figure, layout
from raydistill.report.plots import bars
from raydistill.report.trials import (
    MEASURED,
    SETTINGS,
    hover,
    is_number,
    read_trials,
    span_of,
    why,
)

LOGARITHMIC = ("target_fpir", "near_copy_fpir", "patient_quota", "prompt_patients")


def parallel(evidence: Evidence) -> Figure | None:
    """Draw every trial as a line across its settings and what they came to; None where only one thing varies."""
    trials = read_trials(evidence)
    columns = {
        name: [float(str(t[name])) if is_number(t.get(name)) else None for t in trials]
        for name in (*SETTINGS, *MEASURED)
    }
    varied = [name for name, values in columns.items() if len({*values} - {None}) > 1]
    # A line can't go on where a value is missing.
    drawn = {name: columns[name] for name in sorted(varied, key=lambda name: None in columns[name])}
    if len(drawn) < 2:
        return None
    last = next((name for name in ("utility", "kept_share") if name in drawn), list(drawn)[-1])
    words, ends = SETTINGS | MEASURED, {name: _ends(name, values) for name, values in drawn.items()}
    places = {name: [_placed(name, value, ends[name]) for value in values] for name, values in drawn.items()}
    plot = go.Figure()
    # The chosen one last, on top of the others. Lines and not `parcoords`, which needs WebGL and can't be printed.
    for row in sorted(range(len(trials)), key=lambda row: bool(trials[row].get("chosen"))):
        is_chosen, at = bool(trials[row].get("chosen")), places[last][row]
        colour = VERMILION if is_chosen else GREY if at is None else sample_colorscale("Cividis", [at])[0]
        plot.add_scatter(
            x=list(range(len(drawn))), y=[places[name][row] for name in drawn], mode="lines", name="chosen",
            line={"color": colour, "width": 4 if is_chosen else 1.5},
            text=hover(trials[row]), hovertemplate="%{text}<extra></extra>", showlegend=is_chosen,
        )  # fmt: skip
    layout(plot, 250)
    plot.update_xaxes(tickvals=list(range(len(drawn))), ticktext=[words[name] for name in drawn], showgrid=True)
    plot.update_xaxes(range=[-0.4, len(drawn) - 0.6])
    plot.update_yaxes(visible=False, range=[-0.12, 1.12])
    for place, (low, high) in enumerate(ends.values()):
        for end, shift in ((low, -0.07), (high, 1.07)):
            plot.add_annotation(x=place, y=shift, text=f"{end:.3g}", showarrow=False, font={"size": 12})
    caption = (
        f"One line a setting, the darker the lower in {words[last]}. Each axis of a setting runs from the smallest to "
        "the largest value, those of error rates logarithmically; those of what was measured are at least 0.1 long. "
        "The thick line is the setting that was chosen."
        + (f" It was {said}." if (said := why(evidence)) else "")
        + (" A line ends where nothing was measured." if any(None in values for values in drawn.values()) else "")
    )
    rows = list(zip(*drawn.values(), strict=True))
    figure = Figure("parallel", "Every setting at once", caption, plot, [words[name] for name in drawn], rows)
    return figure.read_from(evidence.path("tune", "trials"))


def importances(evidence: Evidence) -> Figure | None:
    """Draw how much of the objective's variation each setting explains; None with nothing to tell apart."""
    shares = _shares(evidence)
    if not shares:
        return None
    caption = (
        "How much of the variation of what the search maximises goes with each setting (fANOVA, Hutter et al. 2014), "
        "of that part of it which a trial's settings foretell; the rest is chance, or the trials are too few to tell."
    )
    drawn = bars(
        "importances", "Which setting matters", caption, shares, ("setting", "importance"),
        unit="share of the variation explained", percent=True,
    )  # fmt: skip
    return drawn.read_from(evidence.path("tune", "importances"))


def why_no_importances(evidence: Evidence) -> str | None:
    """Say why it isn't drawn which setting matters; None where it is, or where nothing was searched yet."""
    trials = read_trials(evidence)
    if not trials or _shares(evidence):
        return None
    varied = [words for name, words in SETTINGS.items() if len({t.get(name) for t in trials}) > 1]
    reached = {f"{trial.get('objective'):.6g}" for trial in trials if is_number(trial.get("objective"))}
    unexplained = f"the settings of the {len(trials)} that were tried don't foretell what the search maximises"
    same = f"what the search maximises is the same for all {len(trials)} that were tried"
    why = {0: "nothing was searched", 1: f"only one was searched: {''.join(varied)}"}.get(
        len(varied), same if len(reached) < 2 else unexplained
    )
    return f"Which setting matters can't be told: {why}."


def _shares(evidence: Evidence) -> dict[str, float]:
    """Return the importance of every setting, in words; none with nothing to tell apart."""
    table = evidence.table("tune", "importances", ("setting", "importance"))
    if table is None or table.num_rows < 2:
        return {}
    return {SETTINGS[row["setting"]]: row["importance"] for row in table.to_pylist()}


def _ends(name: str, values: list[float | None]) -> tuple[float, float]:
    """Return the ends of an axis; where all is between 0 and 1, so are they."""
    known = [value for value in values if value is not None]
    if name in SETTINGS:
        return min(known), max(known)
    low, high = span_of(known)
    shift = max(0.0, high - max(1.0, *known)) + min(0.0, low - min(0.0, *known))
    return low - shift, high - shift


def _placed(name: str, value: float | None, ends: tuple[float, float]) -> float | None:
    """Return where a value lies between the ends, 0 and 1."""
    if value is None:
        return None
    low, high, at = np.log([*ends, value]) if name in LOGARITHMIC else (*ends, value)
    return round(float((at - low) / (high - low)), 4)
