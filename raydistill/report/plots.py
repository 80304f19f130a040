"""The drawings of the page. They hold aggregates, never a row of a patient."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from raydistill.report.figures import (
    COLOURS,
    GREY,
    INK,
    SKY,
    VERMILION,
    Figure,
    Series,
    faint,
    interval,
    layout,
    marker,
    reach,
    text,
    vertical,
)
from raydistill.report.words import STRANGERS

BINS = 60
ROW_PX = 34
ASIDE = 1.03
DET_STEPS = 40


def dots(
    name: str,
    title: str,
    caption: str,
    series: Sequence[Series],
    *,
    unit: str,
    lines: Mapping[str, float] | None = None,
    percent: bool = False,
) -> Figure:
    """Draw estimates with intervals, one line a label and the series side by side on it.

    Args:
        name: anchor.
        title: what is shown.
        caption: how to read it.
        series: drawn top to bottom within a label.
        unit: title of the value axis.
        lines: names and places of vertical lines.
        percent: write the axis in percent.
    """
    known = [Series(one.name, [point for point in one.points if point.value is not None]) for one in series]
    known = [one for one in known if one.points]
    labels = list(dict.fromkeys(point.label for one in known for point in one.points))
    places, most = _places(labels, known)
    plot = go.Figure()
    for one in known:
        drawn = one.points
        plot.add_scatter(
            x=[p.value for p in drawn],
            y=[places[one.name, p.label] for p in drawn],
            error_x={
                "type": "data", "symmetric": False, "thickness": 2, "width": 4,
                "array": [reach(p.high, p.value) for p in drawn],
                "arrayminus": [reach(p.value, p.low) for p in drawn],
            },
            customdata=[[text(p.label), interval(p), "" if p.n is None else f"n = {p.n}"] for p in drawn],
            hovertemplate=one.name
            + ": %{customdata[0]}<br>%{x:.4g} %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
            mode="markers",
            name=one.name,
            marker=marker(one.name),
        )  # fmt: skip
    layout(plot, ROW_PX * len(labels) * (0.5 + 0.5 * most))
    plot.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=[text(label) for label in labels],
        range=[len(labels) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    plot.update_xaxes(title_text=unit, tickformat=".0%" if percent else None)
    vertical(plot, lines or {})
    header = ("set", "of", "value", "low", "high", "n", "why no value")
    rows = [(one.name, p.label, p.value, p.low, p.high, p.n, p.note) for one in series for p in one.points]
    shown = len(header) if any(row[-1] for row in rows) else len(header) - 1
    return Figure(name, title, caption, plot, header[:shown], [row[:shown] for row in rows])


def ridges(
    name: str,
    title: str,
    caption: str,
    scores: Mapping[str, NDArray[np.float32]],
    lines: Mapping[str, float],
    least: int = 1,
) -> Figure:
    """Draw distributions below one another on one score axis.

    Args:
        name: anchor.
        title: what is shown.
        caption: how to read it.
        scores: (N,) each, in [-1, 1]; keys such as `teacher samples` begin with a name of `COLOURS`.
        lines: names and places of vertical lines, thresholds usually; the first splits the table's last column.
        least: scores a bar may stand for; bars of fewer are drawn level with their neighbours.
    """
    low = min([*(float(values.min()) for values in scores.values()), *lines.values()])
    high = max([1.0, *(float(values.max()) for values in scores.values())])
    edges = np.linspace(low, high + 1e-6, BINS + 1)
    plot, rows = go.Figure(), []
    for rank, (label, values) in enumerate(scores.items()):
        heights = _levelled(np.histogram(values, edges)[0], least) / len(values)
        colour, base = COLOURS[label.split()[0]], len(scores) - 1 - rank
        plot.add_scatter(
            x=[low, *edges.round(6).tolist()],
            y=[base, *(base + 0.85 * heights / max(heights.max(), 1e-9)).round(4).tolist(), base],
            customdata=[0.0, *heights.round(5).tolist(), 0.0],
            hovertemplate=f"{label}: %{{customdata:.1%}} near %{{x:.3f}}<extra></extra>",
            line={"shape": "hv", "color": colour, "width": 1.5}, name=label, showlegend=False,
            fill="toself", fillcolor=faint(colour),
        )  # fmt: skip
        quantiles = [float(q) for q in np.quantile(values, [0.5, 0.95, 0.99, 1.0])]
        beyond = float((values >= next(iter(lines.values()))).mean()) if lines else None
        rows.append((label, len(values), *quantiles, beyond))
    layout(plot, 62 * len(scores))
    plot.update_yaxes(
        tickvals=[i + 0.3 for i in range(len(scores))], ticktext=list(scores)[::-1], range=[-0.1, len(scores)],
        showgrid=False,
    )  # fmt: skip
    plot.update_xaxes(title_text="score (largest similarity to the gallery)")
    vertical(plot, lines, "top")
    header = ("set", "n", "median", "95 %", "99 %", "max", "at or above threshold")
    return Figure(name, title, caption, plot, header, rows)


def path(
    name: str, title: str, caption: str, series: Sequence[Series], epochs: Mapping[str, float], strangers: float | None
) -> Figure:
    """Draw rates over how often each model saw its images, one point a series, on a logarithmic axis."""
    plot, seen = go.Figure(), sorted({epochs[one.name] for one in series})
    for rank, one in enumerate(series):
        point = one.points[0]
        # Models that saw their images equally often would hide one another.
        aside = 1.0 if len(seen) == len(series) else ASIDE**rank
        plot.add_scatter(
            x=[epochs[one.name] * aside], y=[point.value], mode="markers", name=one.name, marker=marker(one.name),
            error_y={
                "type": "data", "symmetric": False, "thickness": 2, "width": 4,
                "array": [reach(point.high, point.value)], "arrayminus": [reach(point.value, point.low)],
            },
            hovertemplate=f"{one.name}: %{{y:.3g}} {interval(point)}<br>{epochs[one.name]:g} epochs<extra></extra>",
        )  # fmt: skip
    layout(plot, 260)
    plot.update_xaxes(
        type="log", title_text="epochs: times each image was seen", tickvals=seen, ticktext=[f"{e:g}" for e in seen],
        range=[math.log10(seen[0] / 2), math.log10(seen[-1] * 2)],
    )  # fmt: skip
    high = max([1e-9, *(one.points[0].high or one.points[0].value or 0.0 for one in series), strangers or 0.0])
    plot.update_yaxes(title_text="re-identification rate", tickformat=".0%", range=[-0.02 * high, 1.1 * high])
    if strangers is not None:
        plot.add_hline(y=strangers, line={"color": GREY, "width": 1.5, "dash": "dash"}, annotation={"text": STRANGERS})
    rows = [(s.name, epochs[s.name], s.points[0].value, s.points[0].low, s.points[0].high, strangers) for s in series]
    return Figure(name, title, caption, plot, ("model", "epochs", "rate", "low", "high", STRANGERS), rows)


def det(
    name: str,
    title: str,
    caption: str,
    known: NDArray[np.float32],
    strangers: NDArray[np.float32],
    threshold: float | None,
) -> Figure:
    """Draw a detection error trade-off: strangers matched against known people missed, threshold by threshold.

    Args:
        name: anchor.
        title: what is shown.
        caption: how to read it.
        known: (P,) scores of new images of gallery patients; -inf where the right patient isn't on top.
        strangers: (M,) scores of people who aren't in the gallery.
        threshold: the operating point.

    Source: Martin et al., The DET Curve in Assessment of Detection Task Performance, Eurospeech 1997; ISO/IEC 19795-1.
    """
    ranked = np.sort(strangers)[::-1]
    steps = np.unique(np.geomspace(1, len(ranked), DET_STEPS).astype(int))
    points = [(float(ranked[step - 1]), step / len(ranked)) for step in steps]
    rows = [(fpir, float((known < at).mean()), at) for at, fpir in points]
    plot = go.Figure()
    plot.add_scatter(
        x=[row[0] for row in rows], y=[row[1] for row in rows], mode="lines+markers", name="thresholds",
        line={"color": INK, "width": 2}, customdata=[row[2] for row in rows],
        hovertemplate="FPIR %{x:.2%}, missed %{y:.1%}<br>threshold %{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    if threshold is not None:
        plot.add_scatter(
            x=[float((strangers >= threshold).mean())], y=[float((known < threshold).mean())], mode="markers",
            name="operating point",
            marker={"size": 14, "symbol": "circle-open", "color": VERMILION, "line": {"width": 3}},
            hovertemplate="FPIR %{x:.2%}, missed %{y:.1%}<extra></extra>",
        )  # fmt: skip
    layout(plot, 300)
    plot.update_xaxes(type="log", title_text="FPIR: strangers matched", tickformat="~%", dtick="D2")
    plot.update_yaxes(title_text="FNIR: known people missed", tickformat=".0%", rangemode="tozero")
    return Figure(name, title, caption, plot, ("FPIR", "FNIR", "threshold"), rows)


def bars(
    name: str,
    title: str,
    caption: str,
    values: Mapping[str, float],
    header: tuple[str, str] = ("node", "seconds"),
    *,
    unit: str = "seconds",
    percent: bool = False,
) -> Figure:
    """Draw a number of each of several things, first to last: by default the seconds of every node."""
    plot = go.Figure()
    plot.add_bar(
        x=list(values.values()), y=list(values), orientation="h", marker={"color": SKY}, showlegend=False,
        hovertemplate=f"%{{y}}: %{{x:{'.0%' if percent else '.1f'}}}{'' if percent else ' s'}<extra></extra>",
    )  # fmt: skip
    layout(plot, 26 * len(values))
    plot.update_yaxes(autorange="reversed", showgrid=False)
    plot.update_xaxes(title_text=unit, **({"tickformat": ".0%", "range": [0, 1]} if percent else {}))
    return Figure(name, title, caption, plot, header, list(values.items()))


def _levelled(counts: NDArray[np.int64], least: int) -> NDArray[np.float64]:
    """Share counts (B,) out evenly among neighbours, so that level bars hold `least` together if all of them do."""
    cells: list[list[int]] = []
    held = least
    for place in np.flatnonzero(counts).tolist():
        if held >= least:
            cells.append([place, place])
            held = 0
        cells[-1][1] = place + 1
        held += int(counts[place])
    if held < least and len(cells) > 1:
        _, end = cells.pop()
        cells[-1][1] = end
    level = counts.astype(float)
    for start, end in cells:
        level[start:end] = counts[start:end].mean()
    return level


def _places(labels: Sequence[str], series: Sequence[Series]) -> tuple[dict[tuple[str, str], float], int]:
    """Place the series that share a label side by side around its line; also how many share the fullest one."""
    places, most = {}, 1
    for line, label in enumerate(labels):
        here = [one.name for one in series if any(point.label == label for point in one.points)]
        most = max(most, len(here))
        places.update(
            {(name, label): line + (i - (len(here) - 1) / 2) * 0.7 / len(here) for i, name in enumerate(here)}
        )
    return places, most
