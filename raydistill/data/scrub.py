"""Taking out of free text what points at a person, with a count of what was taken.

Regular expressions miss things. That is why free text is only used where k train patients share it word for word.
"""

import re
from collections import Counter

_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?"
)

PATTERNS: dict[str, re.Pattern[str]] = {
    "deidentification_mark": re.compile(r"\[\*\*.*?\*\*\]|_{2,}|<[A-Z_]{2,}>|\bXXXX+\b", re.DOTALL),
    "email": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "date": re.compile(
        r"\b(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
        rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:{_MONTHS})\b\.?(?:,?\s+\d{{4}})?"
        rf"|(?:{_MONTHS})\b\.?\s+\d{{1,4}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?)\b",
        re.IGNORECASE,
    ),
    "time": re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*(?:[ap]m\b|[ap]\.m\.))?", re.IGNORECASE),
    "identifier": re.compile(
        r"\b(?:(?:mrn|id|accession|acc)\b(?:\s*(?:no|number)\b)?[\s.:#-]*|(?:patient|case|record|study|no|number)\s*[:#]\s*)"
        r"[a-z-]{0,4}\d[\w-]*",
        re.IGNORECASE,
    ),
    "phone": re.compile(r"(?<!\w)(?:\+\d{1,3}[\s.-]?)?(?:\(\d{2,4}\)[\s.-]?|\d{2,4}[\s.-])\d{3}[\s.-]?\d{3,4}\b"),
    "name": re.compile(
        r"\b(?:[Dd]rs?|[Mm]rs?|[Mm]s|[Mm]iss|[Pp]rof|[Pp]rofessor|[Dd]octor)\b\.?\s+"
        r"(?:(?:[A-Z]\.|[A-Z][\w'\u2019-]+)\s?)+"
    ),
    "number": re.compile(r"\b(?:(?=\w*\d{3})(?=\w*[a-z])(?!\d+(?:mm|cm|ml|kg|kv)\b)\w+|\d{4,})\b", re.IGNORECASE),
}
"""What is taken out, in this order, by the name under which it is counted."""


def scrub(text: str) -> tuple[str, Counter[str]]:
    """Remove marks of de-identification, addresses, dates, identifiers, phone numbers and names after titles.

    Args:
        text: a report or a caption.

    Returns:
        The text on one line without them, and how many of each kind were removed.

    Example:
        >>> scrub("Seen by Dr. Ada Lane on 2020-01-31.  Small effusion.")
        ('Seen by on. Small effusion.', Counter({'date': 1, 'name': 1}))
    """
    removed: Counter[str] = Counter()
    for kind, pattern in PATTERNS.items():
        text, count = pattern.subn(" ", text)
        removed.update({kind: count} if count else {})
    text = re.sub(r"[(\[]\s*[)\]]", " ", text)
    text = re.sub(r"\s+([.,;:])", r"\1", " ".join(text.split()))
    return re.sub(r"([.,;:])[.,;:]+", r"\1", text).strip(" .,;:-") + ("." if text.endswith(".") else ""), removed
