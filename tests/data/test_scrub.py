import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.scrub import PATTERNS, Found, scrub
from raydistill.data.vocabulary import template_texts


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
        ("Film of 2020-01-31T10:00:00Z shows mass", "date", "Film of shows mass"),
        ("Film of 31. 12. 2019 shows mass", "date", "Film of shows mass"),
        ("Film of 13 Aug 82 shows mass", "date", "Film of shows mass"),
        ("Film of the 3rd of March, 2019 shows mass", "date", "Film of the shows mass"),
        ("Film of Mar-2019 and 03/2019", "date", "Film of and"),
        ("Unchanged since May, and since 3/14.", "date", "Unchanged since, and since."),
        ("Seen Tuesday at 5 pm", "date", "Seen at"),
        ("A 93-year-old man, aged 101, 90 y/o", "age_over_89", "A man"),
        ("SSN 123-45-6789, host 10.0.0.1", "identifier", "host"),
        ("NHS 943 476 5919 effusion", "identifier", "effusion"),
        ("Accession: 12-345678 effusion", "identifier", "effusion"),
        ("Call +44 20 7946 0958 or ext. 412", "phone", "Call or"),
        ("Call (029) 2018 0915 or Tel 415 555 2671", "phone", "Call or"),
        ("See https://pacs.hospital.org/x?id=3 now", "url", "See now"),
        ("Lives at 12 Elm Street, alone", "address", "Lives at, alone"),
        ("Moved to St. Luke Hospital today", "institution", "Moved to today"),
        ("Seen with Dr. A.B. van der Berg, edema", "name", "Seen with, edema"),
        ("DR. LANE: EDEMA", "name", "EDEMA"),
        ("Drs. Lane and Smith agree", "name", "agree"),
        ("Edema. Dictated by: ADA LANE", "name", "Edema."),
        ("Edema. Reported to Lane by phone", "name", "Edema. by phone"),
        ("Name: Lane, Ada. Edema", "name", "Edema"),
        ("Ada Lane, MD: edema", "name", "edema"),
        ("[REDACTED] has edema, XXXX", "deidentification_mark", "has edema"),
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
        "No pneumothorax. No effusion. Without change.",
        "Patient: No effusion. Read by: No abnormality",
        "MR angiography, DR chest and MS lesions at C3-4 and T5/6.",
        "Two thirds (2/3) of the lung, 2.5 x 1.3 x 2.0 cm, 1/2 way; grade 3/4.",
        "LINES MAY BE UNCHANGED. THE LUNGS DO NOT SHOW EDEMA.",
        "Lines may persist; reviewed with prior, signed by nobody.",
        "A 57-year-old, aged 89, 88 y/o; chest x-ray, age 90 to 109.",
        "Endotracheal tube 4 cm above the carina, right IJ line ends in the SVC.",
        "Read as normal. Compared with Prior film, ports 1 and 2; 95 mm.",
    ],
)
def test_ordinary_findings_stay(text):
    assert scrub(text) == (text, {})


def test_no_prompt_of_the_closed_language_is_touched():
    assert all(scrub(text) == (text, {}) for text in template_texts())


WORDS = {"Clear", "Free", "Nor", "Not", "None", "Never", "Normal", "Absent", "Negative", "Without", "Denies"}
CAPITALS = st.from_regex(r"[A-Z][a-z]{2,8}(?:-[A-Z][a-z]{2,8})?", fullmatch=True).filter(
    lambda name: not WORDS & {*name.split("-")} and "Unremarkable" not in name
)
DAYS = st.dates(datetime.date(1950, 1, 1), datetime.date(2049, 12, 31))
NOTATIONS = ["%Y-%m-%d", "%m/%d/%Y", "%d.%m.%y", "%Y%m%d", "%d %b %y", "%B %d, %Y", "%d-%b-%Y", "%b. %d, %Y", "%m/%Y"]
BEFORE_NAMES = ["Dr.", "Mrs", "Prof.", "Dictated by", "Radiologist:"]
PLANTED = st.one_of(
    st.builds(lambda day, notation: day.strftime(notation), DAYS, st.sampled_from(NOTATIONS)),
    st.builds("{} {} {}".format, st.sampled_from(BEFORE_NAMES), CAPITALS, CAPITALS),
    st.from_regex(r"MRN[ :#]{1,2}[0-9]{3,9}", fullmatch=True),
    st.from_regex(r"Accession: [A-Z]{0,2}[0-9]{2}-[0-9]{4,7}", fullmatch=True),
    st.from_regex(r"\([2-9][0-9]{2}\) [0-9]{3}-[0-9]{4}", fullmatch=True),
    st.from_regex(r"(?:9[0-9]|10[0-9])(?:-year-old| years old| y/o)", fullmatch=True),
    st.from_regex(r"\[\*\*[A-Za-z0-9 ()-]{1,20}\*\*\]|_{2,5}", fullmatch=True),
)
SENTENCES = [
    "No pneumothorax, {}, is seen.", "Compared to {}, no effusion.", "Heart ({}) is not large.", "{}: no edema, T12 intact.",
]  # fmt: skip


@given(st.lists(PLANTED, min_size=1, max_size=4), st.sampled_from(SENTENCES))
def test_nothing_that_was_planted_survives_and_negations_do(planted, sentence):
    cleaned, removed = scrub(" ".join(sentence.format(piece) for piece in planted))
    own = set(re.findall(r"\w+", sentence))
    gone = {word for piece in planted for word in re.findall(r"\w+", piece)} - own
    assert not gone & set(re.findall(r"\w+", cleaned))
    assert "__" not in cleaned
    assert sum(removed.values()) >= len(planted)
    negated = re.search(r"no \w+|is not large", sentence, re.IGNORECASE)[0]
    assert cleaned.count(negated) == len(planted)


def test_what_a_finder_finds_goes_too_and_what_a_rule_found_is_the_rule_s():
    def finder(text):
        year, lane = text.index("2020"), text.index("Lane")
        return [Found("place", lane, lane + 4), Found("date", year, year + 4)]

    cleaned, removed = scrub("Ms Ada, of Lane, 2020-01-31, has edema.", finder)
    assert cleaned == "of, has edema."
    assert removed == {"name": 1, "date": 1, "place": 1}


@given(st.text(max_size=200))
def test_any_text_gives_one_line_without_matches_of_marks_and_mails(text):
    cleaned, _ = scrub(text)
    assert "\n" not in cleaned
    assert not PATTERNS["email"].search(cleaned)
    assert not re.search(r"_{2,}", cleaned)
