"""Figures as plotly objects, each with the table of its numbers. They hold aggregates, never a row of a patient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#6b7280",
)  # fmt: skip
"""Source: Okabe and Ito 2008, Color Universal Design; grey added for controls."""

COLOURS = {
    "real": BLACK, "teacher": VERMILION, "filtered": ORANGE, "student": BLUE, "control": GREY,
    "probe": PURPLE, "calibration": GREY, "evaluation": BLACK, "sensitivity": BLUE, "false flags": VERMILION,
}  # fmt: skip
SYMBOLS = {
    "real": "square", "teacher": "circle", "filtered": "triangle-up", "student": "diamond", "control": "line-ns-open",
    "sensitivity": "circle", "false flags": "x",
}  # fmt: skip
INK, RULE, FONT = "#1f2933", "#d9dee5", "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
BINS = 60
ROW_PX = 34

Cell = str | float | int | None


@dataclass(frozen=True)
class Figure:
    """A drawing and what it draws.

    Args:
        name: its anchor on the page.
        title: what is shown.
        caption: how to read it.
        plot: the drawing.
        header: columns of its numbers.
        rows: its numbers.
    """

    name: str
    title: str
    caption: str
    plot: go.Figure
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Point:
    """One estimate with its interval; `low` and `high` are None where there is no interval."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Series:
    """Points of one kind, such as the student's; its name decides colour and symbol."""

    name: str
    points: Sequence[Point] = field(default_factory=tuple)


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
    labels = list(dict.fromkeys(point.label for one in series for point in one.points))
    places, most = _places(labels, series)
    plot = go.Figure()
    for one in series:
        drawn = [point for point in one.points if point.value is not None]
        plot.add_scatter(
            x=[p.value for p in drawn],
            y=[places[one.name, p.label] for p in drawn],
            error_x={
                "type": "data", "symmetric": False, "thickness": 2, "width": 4,
                "array": [_reach(p.high, p.value) for p in drawn],
                "arrayminus": [_reach(p.value, p.low) for p in drawn],
            },
            customdata=[[p.label, _interval(p), "" if p.n is None else f"n = {p.n}"] for p in drawn],
            hovertemplate=f"{one.name}: %{{customdata[0]}}<br>%{{x:.4g}} %{{customdata[1]}}<br>%{{customdata[2]}}<extra></extra>",
            mode="markers",
            name=one.name,
            marker=_marker(one.name),
        )  # fmt: skip
    _layout(plot, ROW_PX * len(labels) * (0.5 + 0.5 * most))
    plot.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6], showgrid=False
    )
    plot.update_xaxes(title_text=unit, tickformat=".0%" if percent else None)
    _vertical(plot, lines or {})
    rows = [(one.name, p.label, p.value, p.low, p.high, p.n) for one in series for p in one.points]
    return Figure(name, title, caption, plot, ("set", "of", "value", "low", "high", "n"), rows)


def ridges(
    name: str, title: str, caption: str, scores: Mapping[str, NDArray[np.float32]], lines: Mapping[str, float]
) -> Figure:
    """Draw distributions below one another on one score axis.

    Args:
        name: anchor.
        title: what is shown.
        caption: how to read it.
        scores: (N,) each, in [-1, 1]; keys such as `teacher samples` begin with a name of `COLOURS`.
        lines: names and places of vertical lines, thresholds usually; the first splits the table's last column.
    """
    low = min([*(float(values.min()) for values in scores.values()), *lines.values()])
    edges = np.linspace(low, 1.0 + 1e-6, BINS + 1)
    plot, rows = go.Figure(), []
    for rank, (label, values) in enumerate(scores.items()):
        heights = np.histogram(values, edges)[0] / len(values)
        colour, base = COLOURS[label.split()[0]], len(scores) - 1 - rank
        plot.add_scatter(
            x=[low, *edges.round(4).tolist()],
            y=[base, *(base + 0.85 * heights / max(heights.max(), 1e-9)).round(4).tolist(), base],
            customdata=[0.0, *heights.round(5).tolist(), 0.0],
            hovertemplate=f"{label}: %{{customdata:.1%}} near %{{x:.3f}}<extra></extra>",
            line={"shape": "hv", "color": colour, "width": 1.5}, name=label, showlegend=False,
            fill="toself", fillcolor=_faint(colour),
        )  # fmt: skip
        quantiles = [float(q) for q in np.quantile(values, [0.5, 0.95, 0.99, 1.0])]
        beyond = float((values >= next(iter(lines.values()))).mean()) if lines else None
        rows.append((label, len(values), *quantiles, beyond))
    _layout(plot, 62 * len(scores))
    plot.update_yaxes(
        tickvals=[i + 0.3 for i in range(len(scores))], ticktext=list(scores)[::-1], range=[-0.1, len(scores)],
        showgrid=False,
    )  # fmt: skip
    plot.update_xaxes(title_text="score (largest similarity to the gallery)")
    _vertical(plot, lines, "top")
    return Figure(name, title, caption, plot, ("set", "n", "median", "95 %", "99 %", "max", "from threshold"), rows)


def frontier(name: str, title: str, caption: str, trials: Sequence[Mapping[str, Cell]], max_risk: float) -> Figure:
    """Draw the trials of the Tune search: risk against utility, coloured by the share kept."""
    header = (
        "trial_id",
        "target_fpir",
        "near_copy_fpir",
        "kept_share",
        "utility",
        "risk",
        "risk_high",
        "feasible",
        "chosen",
    )
    known = [t for t in trials if _finite(t.get("utility")) and _finite(t.get("risk_high"))]
    plot = go.Figure()
    plot.add_scatter(
        x=[t["risk_high"] for t in known], y=[t["utility"] for t in known], mode="markers", showlegend=False,
        customdata=[[t.get(column) for column in header] for t in known],
        hovertemplate="trial %{customdata[0]}<br>target FPIR %{customdata[1]:.3g}, near-copy FPIR %{customdata[2]:.3g}"
        "<br>kept %{customdata[3]:.1%}<br>AUROC %{y:.3f}, excess risk at most %{x:.3f}<extra></extra>",
        marker={
            "size": 13, "color": [t.get("kept_share") for t in known], "colorscale": "Cividis",
            "cmin": 0, "cmax": 1, "symbol": ["circle" if t.get("feasible") else "x-thin-open" for t in known],
            "line": {"width": [1 if t.get("feasible") else 3 for t in known], "color": INK},
            "colorbar": {"title": {"text": "kept"}, "thickness": 10, "tickformat": ".0%", "outlinewidth": 0},
        },
    )  # fmt: skip
    chosen = [t for t in known if t.get("chosen")]
    plot.add_scatter(
        x=[t["risk_high"] for t in chosen], y=[t["utility"] for t in chosen], mode="markers", name="chosen",
        marker={"size": 24, "symbol": "circle-open", "color": VERMILION, "line": {"width": 3}}, hoverinfo="skip",
    )  # fmt: skip
    _layout(plot, 340)
    plot.update_xaxes(title_text="judge's excess risk, upper bound")
    plot.update_yaxes(title_text="findings AUROC")
    _vertical(plot, {"allowed": max_risk})
    return Figure(name, title, caption, plot, header, [[t.get(column) for column in header] for t in trials])


def path(
    name: str, title: str, caption: str, series: Sequence[Series], epochs: Mapping[str, float], control: float | None
) -> Figure:
    """Draw rates over how often each model saw its images, one point a series, on a logarithmic axis."""
    plot = go.Figure()
    for one in series:
        point = one.points[0]
        plot.add_scatter(
            x=[epochs[one.name]], y=[point.value], mode="markers", name=one.name, marker=_marker(one.name),
            error_y={
                "type": "data", "symmetric": False, "thickness": 2, "width": 4,
                "array": [_reach(point.high, point.value)], "arrayminus": [_reach(point.value, point.low)],
            },
            hovertemplate=f"{one.name}: %{{y:.3g}} {_interval(point)}<br>%{{x}} epochs<extra></extra>",
        )  # fmt: skip
    _layout(plot, 260)
    seen = sorted(epochs[one.name] for one in series)
    plot.update_xaxes(
        type="log", title_text="epochs: times each image was seen", tickvals=seen, ticktext=[f"{e:g}" for e in seen],
        range=[math.log10(seen[0] / 2), math.log10(seen[-1] * 2)],
    )  # fmt: skip
    high = max([1e-9, *(one.points[0].high or one.points[0].value or 0.0 for one in series), control or 0.0])
    plot.update_yaxes(title_text="re-identification rate", tickformat=".0%", range=[-0.02 * high, 1.1 * high])
    if control is not None:
        plot.add_hline(y=control, line={"color": GREY, "width": 1.5, "dash": "dash"}, annotation={"text": "control"})
    rows = [(s.name, epochs[s.name], s.points[0].value, s.points[0].low, s.points[0].high, control) for s in series]
    return Figure(name, title, caption, plot, ("model", "epochs", "rate", "low", "high", "control"), rows)


def bars(name: str, title: str, caption: str, seconds: Mapping[str, float]) -> Figure:
    """Draw the seconds of every node, first to last."""
    plot = go.Figure()
    plot.add_bar(
        x=list(seconds.values()), y=list(seconds), orientation="h", marker={"color": SKY},
        hovertemplate="%{y}: %{x:.1f} s<extra></extra>",
    )  # fmt: skip
    _layout(plot, 26 * len(seconds))
    plot.update_yaxes(autorange="reversed", showgrid=False)
    plot.update_xaxes(title_text="seconds")
    return Figure(name, title, caption, plot, ("node", "seconds"), list(seconds.items()))


def _layout(plot: go.Figure, inner_px: float) -> None:
    plot.update_layout(
        template=None, height=int(inner_px + 110), margin={"l": 8, "r": 16, "t": 44, "b": 8},
        font={"family": FONT, "size": 13, "color": INK}, paper_bgcolor="#fff", plot_bgcolor="#fff",
        legend={"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yref": "paper"},
        hoverlabel={"font": {"family": FONT}}, bargap=0.35, dragmode=False,
    )  # fmt: skip
    plot.update_xaxes(
        gridcolor=RULE, zeroline=False, title_font_size=13, automargin=True, linecolor=RULE, fixedrange=True
    )
    plot.update_yaxes(
        gridcolor=RULE, zeroline=False, title_font_size=13, automargin=True, linecolor=RULE, fixedrange=True
    )


def _vertical(plot: go.Figure, lines: Mapping[str, float], edge: str = "bottom") -> None:
    for label, place in lines.items():
        plot.add_vline(
            x=place, line={"color": INK, "width": 1.5, "dash": "dash"},
            annotation={"text": f"{label} {place:.3g}", "yanchor": "bottom", "font": {"size": 12}, "bgcolor": "#fff"},
            annotation_position=f"{edge} {'left' if place > 0.5 and edge == 'top' else 'right'}",
        )  # fmt: skip


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


def _marker(name: str) -> dict[str, object]:
    return {"size": 10, "color": COLOURS[name], "symbol": SYMBOLS[name], "line": {"width": 2, "color": COLOURS[name]}}


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _reach(end: float | None, start: float | None) -> float:
    return 0.0 if end is None or start is None else max(0.0, end - start)


def _interval(point: Point) -> str:
    return "" if point.low is None or point.high is None else f"({point.low:.4g} to {point.high:.4g})"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
