"""Sections of radiology reports. Of a report the impression is what a caption would say."""

import re

HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /&,()-]{2,60}?)[ \t]*:", re.MULTILINE)
"""Words in capitals at the start of a line, before a colon, as in MIMIC-CXR."""

CAPTION = ("IMPRESSION", "CONCLUSION", "IMPRESSIONS", "FINDINGS")
"""Sections that say what is seen; the first of these that a report has is its caption."""


def sections(report: str) -> dict[str, str]:
    """Cut a report at its headings.

    Args:
        report: as it was dictated.

    Returns:
        Text on one line by heading; of a heading that is there twice the last, which is the final report's.

    Source: Johnson et al., MIMIC-CXR, Sci Data 2019 6:317, whose reports have impression and findings under headings.
    """
    parts = HEADING.split(report)
    return {name.strip(): " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def caption(report: str) -> str | None:
    r"""Return what a report says was seen: its impression, else its findings; None where it has neither.

    Example:
        >>> caption("FINDINGS: The heart is large.\n IMPRESSION:\n  Cardiomegaly.  No\n effusion.")
        'Cardiomegaly. No effusion.'
    """
    found = sections(report)
    return next((found[name] for name in CAPTION if found.get(name)), None)


def seen(text: str) -> tuple[str | None, int]:
    """Return what a text says was seen, and how many sections were left out for it.

    Args:
        text: a report with headings, of which the caption is taken, or any other text, which is taken whole. Nothing
            is taken out of a sentence: "no effusion" stays.
    """
    found = sections(text)
    if not found:
        return text, 0
    said = caption(text)
    return said, len(found) - bool(said)
