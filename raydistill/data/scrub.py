"""Taking out of free text what points at a person, with a count of what was taken.

Rules miss things, names without a title above all, and so do libraries (docs/data.md has what each finds). That is why
free text is only used where k train patients share it word for word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?"
)
# Lines may persist.
_MONTH_ALONE = r"(?:january|february|march|april|(?-i:May)|june|july|august|september|october|november|december)"
_ORDINAL = r"(?:st|nd|rd|th)?"
_YEAR = r"(?:\d{4}|'?\d{2}(?!\s*[mc]m\b))"
_SPLIT = r"\s?[-/.]\s?"
# What denies a finding is never taken for a name, however it is written.
_DENIED = r"(?!(?i:no|not|nor|none|never|without|negative|absent|free|clear|normal|unremarkable|denies)\b)"
_CAPITAL = rf"(?:{_DENIED}(?![a-z])[^\W\d_](?:\.|[\w'\u2019-]*))"
_PARTICLES = r"(?:(?i:v[ao]n|de[rnl]?|l[ae]|d[ai]|bin|and|&)\s)*"
_NAME = rf"{_PARTICLES}{_CAPITAL}(?:(?:\s|(?<=\.)){_PARTICLES}{_CAPITAL}){{0,4}}"
_TITLE = (
    r"(?:(?:[Dd]rs?|[Mm]rs?|[Mm]s|[Mm]iss|[Pp]rof|[Pp]rofessor|[Dd]octor|[Nn]urse)\b\.?"
    r"|(?:DRS?|MRS?|MS|PROF)\.)\s+"  # without a dot MR, MS and DR are words of radiology
)

PATTERNS: dict[str, re.Pattern[str]] = {
    "deidentification_mark": re.compile(
        r"\[\*\*.*?\*\*\]|_{2,}|<[A-Z_]{2,}>|\[(?:[A-Z]{3,}[ _]?)+\]|\bXXXX+\b", re.DOTALL
    ),
    "email": re.compile(r"\b[\w.+'-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "url": re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    "date": re.compile(
        rf"\b(?:\d{{4}}{_SPLIT}\d{{1,2}}{_SPLIT}\d{{1,2}}(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?"
        rf"|\d{{1,2}}{_SPLIT}\d{{1,2}}{_SPLIT}(?:\d{{4}}|\d{{2}})"
        r"|\d{1,2}/\d{4}|\d{4}/\d{1,2}|(?:0?[1-9]|1[0-2])/(?:[0-2]\d|3[01])|(?:[0-2]\d|3[01])/(?:0[1-9]|1[0-2])"
        rf"|\d{{1,2}}{_ORDINAL}[\s./-]*(?:of\s+)?(?:{_MONTHS})\b\.?(?:[\s,./-]*(?:of\s+)?{_YEAR})?"
        rf"|(?:{_MONTHS})\b\.?[\s./-]+(?:(?:the|of)\s+)?\d{{1,4}}{_ORDINAL}(?:,?\s*{_YEAR})?"
        rf"|(?<=in )(?:{_MONTH_ALONE})|(?<=since )(?:{_MONTH_ALONE})|(?<=from )(?:{_MONTH_ALONE})"
        rf"|(?<=last )(?:{_MONTH_ALONE})|(?<=until )(?:{_MONTH_ALONE})"
        r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b",
        re.IGNORECASE,
    ),
    "time": re.compile(
        r"\b(?:\d{1,2}:\d{2}(?::\d{2})?(?:\s*(?:[ap]m\b|[ap]\.m\.))?|\d{1,2}(?:\.\d{2})?\s*(?:[ap]m\b|[ap]\.m\.))",
        re.IGNORECASE,
    ),
    "age_over_89": re.compile(
        r"\b(?:(?:9\d|1[0-2]\d)(?:\s*-?\s*years?\b|\s*-?\s*yrs?\b|\s*yo\b|\s*y/o\b|\s*y\.o\.)(?:\s*-?\s*old\b)?"
        r"|aged?\s*:?\s*(?:9\d|1[0-2]\d)\b(?!\s*(?:to|-)\s*\d)|nonagenarian\b|centenarian\b)",
        re.IGNORECASE,
    ),
    "identifier": re.compile(
        r"\b(?:(?:(?:mrn|id|accession|acc|ssn|nhs)\b(?:\s*(?:no|nr|num|number)\b)?[\s.:#-]*"
        r"|(?:patient|case|record|study|exam|order|encounter|visit|chart|account|no|nr|number)\s*[:#]\s*)"
        r"[a-z-]{0,4}\d[\w/-]*(?:\s\d{3,}\b)*|\d+(?:-\d+){2,}\b|\d{1,3}(?:\.\d{1,3}){3}\b)",
        re.IGNORECASE,
    ),
    "phone": re.compile(
        r"(?<!\w)(?:\+\d[\d\s().-]{6,}\d\b"
        r"|(?:\+\d{1,3}[\s.-]?)?(?:\(\d{2,5}\)[\s.-]?|\d{2,5}[\s.-])\d{3,4}[\s.-]?\d{3,4}(?:\s?x\d+)?\b"
        r"|(?i:ext|extension|pager|beeper|tel|fax|phone)\b\.?\s*[:#]?\s*\d(?:[\s().-]{0,2}\d)*\b)"
    ),
    "address": re.compile(
        r"\b\d{1,5}\s+(?:[A-Z][\w'\u2019.-]*\s+){1,3}"
        r"(?:(?:Street|St|Avenue|Ave|Road|Rd|Drive|Lane|Boulevard|Blvd|Court|Way|Place|Close|Square)\b\.?"
        r"|(?:Apt\.?|Suite|Unit)\s\w+)"
    ),
    "institution": re.compile(
        rf"\b(?:St\.\s)?(?:{_CAPITAL}\s){{1,4}}(?:Hospital|Clinic|Infirmary|Medical\s(?:Center|Centre))\b"
    ),
    "name": re.compile(
        rf"\b(?:(?:{_TITLE}){{1,3}}(?:(?:med|Ing)\.\s+)?{_NAME}"
        r"|(?i:dictated|read|reviewed|signed|interpreted|verified|approved|transcribed|discussed|reported|communicated"
        rf"|notified|called|referred|ordered)\s+(?i:by|with|to)\s*:?\s*(?!{_TITLE}){_NAME}"
        r"|(?i:(?:patient|physician|radiologist|attending|resident|technologist|name)(?:\s+name)?)\s*:\s*"
        rf"(?!{_TITLE}){_NAME}(?:,\s{_NAME})?"
        rf"|(?:{_CAPITAL}\s){{0,2}}{_CAPITAL},?\s(?:(?:MD|RN|NP|PhD|FRCR|MBBS)\b|[MD]\.\s?[DO]\.))"
    ),
    "number": re.compile(
        r"(?<![\w-])(?!\d+(?:mm|cm|ml|kg|kv)\b)(?:(?=[\w-]*\d{4})[\w-]+|(?=\w*\d{3})(?=\w*[a-z])\w+)\b", re.IGNORECASE
    ),
}
"""What is taken out, in this order, by the name under which it is counted.

Kinds of the HIPAA safe harbour (45 CFR 164.514(b)(2)(i)) that can stand in a report's text; ages only above 89. Places
smaller than a state are found where a street or an institution is named as such.
"""


class Found(NamedTuple):
    """A piece of text that points at a person: from `start` to before `end`, in characters."""

    kind: str
    start: int
    end: int


Finder = Callable[[str], Iterable[Found]]
"""Finds more than the rules do, in the text as it was."""


def scrub(text: str, finder: Finder | None = None) -> tuple[str, Counter[str]]:
    """Remove what any rule or the finder takes for something that points at a person (kinds as in `PATTERNS`).

    Args:
        text: a report or a caption.
        finder: is asked too; what a rule has found is counted as the rule's.

    Returns:
        The text on one line without them, and how many of each kind were removed.

    Example:
        >>> scrub("Seen by Dr. Ada Lane on 2020-01-31.  Small effusion.")
        ('Seen by on. Small effusion.', Counter({'date': 1, 'name': 1}))
    """
    removed: Counter[str] = Counter()
    left = text
    for kind, pattern in PATTERNS.items():
        # As many spaces, so that places in the text stay what they are.
        left, count = pattern.subn(lambda match: " " * len(match[0]), left)
        removed.update({kind: count} if count else {})
    for kind, start, end in finder(text) if finder else ():
        if any(map(str.isalnum, left[start:end])):
            left = left[:start] + " " * (end - start) + left[end:]
            removed[kind] += 1
    left = re.sub(r"[(\[]\s*[)\]]", " ", left)
    left = re.sub(r"\s+([.,;:])", r"\1", " ".join(left.split()))
    return re.sub(r"([.,;:])[.,;:]+", r"\1", left).strip(" .,;:-") + ("." if left.endswith(".") else ""), removed
