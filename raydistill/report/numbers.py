"""Numbers and texts as people read them: on the page, and in the cards' Markdown."""

SMALLEST_SHARE = 1e-4
"""Smaller ones are shown as `<0.01 %`; the page keeps their value for machines."""

INSUFFICIENT, NOT_SHOWN = "insufficient", "not shown"
"""Why there is no number: the data can't support one, or it stays inside. A note begins with either."""


def show(value: float | int | str | None, unit: str = "") -> str:
    """Write a number for people: shares in percent, counts with separators, others in three or four digits.

    Example:
        >>> show(512.0, "samples"), show(0.81234), show(None), show(True)
        ('512', '0.8123', '—', 'yes')
    """
    if value is None or isinstance(value, str):
        return value or "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit.startswith("share"):
        if 0 < value < SMALLEST_SHARE:
            return f"<{100 * SMALLEST_SHARE:g}\N{NO-BREAK SPACE}%"
        return f"{100 * value:.3g}\N{NO-BREAK SPACE}%"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4g}"


def span(interval: tuple[float, float] | None, unit: str = "") -> str:
    """Write an interval for people; empty when there is none."""
    return f"{show(interval[0], unit)} to {show(interval[1], unit)}" if interval else ""


def absence(note: str) -> tuple[str, str]:
    """Split the note of a result without a value into a word for that, and why.

    Example:
        >>> absence("not shown: few"), absence("nobody")
        (('not shown', 'few'), ('insufficient', 'nobody'))
    """
    word, _, why = note.partition(": ")
    return (word, why) if word in (INSUFFICIENT, NOT_SHOWN) else (INSUFFICIENT, note)


def inline(text: str) -> str:
    """Write any text so that Markdown shows it as it is, on one line and in one cell of a table.

    Example:
        >>> inline("1 < 2")
        '1 &lt; 2'
    """
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").split())
