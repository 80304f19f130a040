"""The closed public language of prompts: its words, and how a source's values become them.

Nothing here is learned from a cohort, so the words themselves can't tell anything about a patient.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

BASE_PROMPT = "chest x-ray"
NO_FINDING = "no finding"

VIEWS = {
    "pa": "pa", "ap": "ap", "lateral": "lateral", "frontal": "frontal", "oblique": "oblique", "ll": "lateral",
    "rl": "lateral", "lat": "lateral", "posteroanterior": "pa", "anteroposterior": "ap",
}  # fmt: skip
"""View words by what sources write. The abbreviations are DICOM's View Position codes.
Source: DICOM PS3.3, C.8.7.1 (attribute 0018,5101)."""

SEXES = {"f": "female", "m": "male", "female": "female", "male": "male", "woman": "female", "man": "male"}
"""Sex words by what sources write. Source: DICOM PS3.3, C.7.1.1 (attribute 0010,0040)."""

NIH_FINDINGS = (
    "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
    "consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "hernia",
)  # fmt: skip
"""Source: Wang et al., ChestX-ray8, arXiv 1705.02315 (the 14 of ChestX-ray14)."""

CHEXPERT_FINDINGS = (
    "enlarged cardiomediastinum", "cardiomegaly", "lung opacity", "lung lesion", "edema", "consolidation", "pneumonia",
    "atelectasis", "pneumothorax", "pleural effusion", "pleural other", "fracture", "support devices",
)  # fmt: skip
"""Source: Irvin et al., CheXpert, arXiv 1901.07031 (its 14 observations without "no finding")."""

PHANTOM_FINDINGS = ("effusion", "cardiomegaly", "nodule", "pneumothorax", "consolidation", "device")
"""What the embedded cohort can show."""

FINDINGS = tuple(sorted({*NIH_FINDINGS, *CHEXPERT_FINDINGS, *PHANTOM_FINDINGS}))
MAX_AGE = 120
"""Years. Ages beyond this are errors of the source."""


SAYING_NOTHING = {
    *("a", "an", "and", "at", "for", "from", "has", "in", "is", "no", "of", "on", "or", "to", "the", "who", "with"),
    *("without", "shows", "showing", "finding", "findings", "patient", "chest", "x", "ray", "xray", "radiograph"),
    *("film", "image", "photo", "picture", "scan", "view", "age", "aged", "old", "year", "years"),
}
"""Words of prompts that point at nobody."""


@dataclass(frozen=True)
class Fields:
    """What a prompt can say of one image; None is "not said".

    Args:
        labels: finding words, sorted; empty means that the image shows none.
        view: a word of `VIEWS`.
        sex: a word of `SEXES`.
        age_band: such as `"40 to 59"`, in years.
    """

    labels: tuple[str, ...] | None = None
    view: str | None = None
    sex: str | None = None
    age_band: str | None = None

    def prompt(self) -> str:
        """Say it in the template's language.

        Example:
            >>> Fields(labels=("effusion", "nodule"), view="pa", sex="female", age_band="40 to 59").prompt()
            'chest x-ray, pa view, female, age 40 to 59, effusion and nodule'
            >>> Fields(labels=()).prompt()
            'chest x-ray, no finding'
        """
        parts = [BASE_PROMPT, self.view and f"{self.view} view", self.sex, self.age_band and f"age {self.age_band}"]
        if self.labels is not None:
            parts.append(" and ".join(self.labels) or NO_FINDING)
        return ", ".join(part for part in parts if part)


def plain_words(value: str) -> str:
    """Write a name in lower case with single spaces: `Pleural_Thickening` becomes `pleural thickening`."""
    return " ".join(re.sub(r"[\W_]+", " ", value.lower()).split())


def says_no_more(prompt: str, fields: Fields) -> bool:
    """Whether a prompt has no word but those of its fields and such as say nothing of anybody.

    Example:
        >>> mass = Fields(labels=("mass",), sex="female")
        >>> says_no_more("a female patient with a mass", mass), says_no_more("a jockey with a mass", mass)
        (True, False)
    """
    return set(plain_words(prompt).split()) <= {*plain_words(fields.prompt()).split(), *SAYING_NOTHING}


def findings(labels: list[str]) -> list[str]:
    """Return finding words, sorted and each once; every way to write "no finding" becomes the empty list."""
    return sorted({plain_words(label) for label in labels} - {"", NO_FINDING, "normal", "none"})


def age_band(age: float, years: int) -> str:
    """Return the band of an age.

    Args:
        age: in years, in [0, 120].
        years: width of a band.

    Example:
        >>> age_band(57.0, 20)
        '40 to 59'
    """
    start = int(age // years) * years
    return f"{start} to {start + years - 1}"


def template_texts() -> Iterator[str]:
    """Yield public texts that hold every word of the template language: views, sexes, ages, findings, digits.

    The packaged tokenizer is trained on them and on nothing else. The order never changes.
    """
    yield from (BASE_PROMPT, f"{BASE_PROMPT}, {NO_FINDING}")
    for view in sorted(set(VIEWS.values())):
        for sex in sorted(set(SEXES.values())):
            for years in (5, 10, 20):
                bands = [age_band(age, years) for age in range(0, MAX_AGE + 1, years)]
                yield from (Fields((), view, sex, band).prompt() for band in bands)
    yield from (f"age {age} to {last}" for age in range(MAX_AGE + 1) for last in (age, age + 4, age + 9, age + 19))
    for first in FINDINGS:
        yield Fields((first,)).prompt()
        yield from (Fields((first, second)).prompt() for second in FINDINGS if second > first)
