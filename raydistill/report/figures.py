"""What a figure is: a drawing with the table of its numbers and where they were read; how all of them look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import plotly.graph_objects as go

from raydistill.report.words import STRANGERS

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#6b7280",
)  # fmt: skip
"""Source: Okabe and Ito 2008, Color Universal Design; grey added for strangers."""

COLOURS = {
    "real": BLACK, "teacher": VERMILION, "filtered": ORANGE, "student": BLUE, STRANGERS: GREY,
    "probe": PURPLE, "calibration": GREY, "evaluation": BLACK, "sensitivity": BLUE, "false flags": VERMILION,
}  # fmt: skip
SYMBOLS = {
    "real": "square", "teacher": "circle", "filtered": "triangle-up", "student": "diamond", STRANGERS: "line-ns-open",
    "sensitivity": "circle", "false flags": "x",
}  # fmt: skip
INK, RULE, FONT = "#1f2933", "#d9dee5", "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

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
        sources: the files of the run folder that they were read from.
    """

    name: str
    title: str
    caption: str
    plot: go.Figure
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sources: Sequence[str] = ()

    def read_from(self, *paths: str | None) -> "Figure":
        """Return the figure with its sources; None and what was said before are left out."""
        return replace(self, sources=tuple(dict.fromkeys(path for path in paths if path)))


@dataclass(frozen=True)
class Point:
    """One estimate with its interval; `low` and `high` are None where there is no interval, `note` says why no value."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Series:
    """Points of one kind, such as the student's; its name decides colour and symbol."""

    name: str
    points: Sequence[Point] = field(default_factory=tuple)


def layout(plot: go.Figure, inner_px: float) -> None:
    """Give a drawing its height, margins, fonts, grid and legend."""
    plot.update_layout(
        template=None, showlegend=True, height=int(inner_px + 110), margin={"l": 8, "r": 16, "t": 44, "b": 8},
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


def vertical(plot: go.Figure, lines: Mapping[str, float], edge: str = "bottom") -> None:
    """Draw named vertical lines, labelled at the top or bottom edge."""
    for label, place in lines.items():
        plot.add_vline(
            x=place, line={"color": INK, "width": 1.5, "dash": "dash"},
            annotation={"text": f"{label} {place:.3g}", "yanchor": "bottom", "font": {"size": 12}, "bgcolor": "#fff"},
            annotation_position=f"{edge} {'left' if place > 0.5 and edge == 'top' else 'right'}",
        )  # fmt: skip


def marker(name: str) -> dict[str, object]:
    """Return colour and symbol of a series."""
    return {"size": 10, "color": COLOURS[name], "symbol": SYMBOLS[name], "line": {"width": 2, "color": COLOURS[name]}}


def reach(end: float | None, start: float | None) -> float:
    """Return the length of one arm of an interval; 0 where there is none."""
    return 0.0 if end is None or start is None else max(0.0, end - start)


def interval(point: Point) -> str:
    """Write a point's interval; empty where there is none."""
    return "" if point.low is None or point.high is None else f"({point.low:.4g} to {point.high:.4g})"


def text(label: str) -> str:
    """Write a label so that plotly, which reads a few HTML tags in texts, shows it as it is."""
    return label.replace("&", "&amp;").replace("<", "&lt;")


def faint(colour: str) -> str:
    """Return a colour of `#rrggbb` for filling."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
