import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.scrub import PATTERNS, scrub


@pytest.mark.parametrize(
    ("text", "kind", "left"),
    [
        ("Compared to [**2118-3-4**], stable.", "deidentification_mark", "Compared to, stable."),
        ("Mr. ___ has edema.", "deidentification_mark", "Mr. has edema."),
        ("Mail jane.doe@hospital.org now", "email", "Mail now"),
        ("Study of 12/31/2019: clear", "date", "Study of: clear"),
        ("Film 3 March 2020 shows mass", "date", "Film shows mass"),
        ("Since Jan 5th, 2020 better", "date", "Since better"),
        ("Called at 10:45 PM.", "time", "Called at."),
        ("MRN: 00123 effusion", "identifier", "effusion"),
        ("Accession no AB-12 effusion", "identifier", "effusion"),
        ("Call (555) 123-4567 back", "phone", "Call back"),
        ("Read by Dr. Ada B. Lane-Smith. Effusion", "name", "Read by. Effusion"),
        ("Mrs O\u2019Hara is well", "name", "is well"),
        ("Token A12345 and 987654 seen", "number", "Token and seen"),
    ],
)
def test_what_points_at_a_person_goes_and_is_counted(text, kind, left):
    cleaned, removed = scrub(text)
    assert cleaned == left
    assert removed[kind] >= 1


@pytest.mark.parametrize(
    "text",
    [
        "Small left effusion, 3 mm nodule.",
        "Chest X-ray, PA view, 57-year-old male. Findings: cardiomegaly, emphysema.",
        "No 5 mm nodule; septal lines may persist, marked 12 mm, maybe decreased 3 mm.",
        "Fracture of T12 and 120kV technique",
    ],
)
def test_ordinary_findings_stay(text):
    assert scrub(text) == (text, {})


@given(st.text(max_size=200))
def test_any_text_gives_one_line_without_matches_of_marks_and_mails(text):
    cleaned, _ = scrub(text)
    assert "\n" not in cleaned
    assert not PATTERNS["email"].search(cleaned)
    assert not re.search(r"_{2,}", cleaned)
