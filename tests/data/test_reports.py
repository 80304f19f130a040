"""What of a report becomes a caption: what was seen, in its own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.reports import CAPTION, caption, seen

REPORT = """\
                                 FINAL REPORT
 EXAMINATION: CHEST (PA AND LAT)
 INDICATION:  ___ year old man with cough.
 FINDINGS:
 The lungs are clear.  There is no pleural
 effusion.
 {name}:
 No acute process.  Without pneumothorax.
"""


@pytest.mark.parametrize("name", [one for one in CAPTION if one != "FINDINGS"])
def test_the_impression_is_taken_and_no_negation_is_lost(name):
    assert seen(REPORT.format(name=name)) == ("No acute process. Without pneumothorax.", 3)


def test_without_an_impression_the_findings_are_taken():
    text = REPORT.partition(" {name}")[0]
    assert seen(text) == ("The lungs are clear. There is no pleural effusion.", 2)


def test_of_a_report_that_says_nothing_of_what_was_seen_nothing_is_taken():
    assert seen("INDICATION: Mr Smith, 45, cough.\nCOMPARISON: None.") == (None, 2)


def test_a_text_without_headings_is_taken_whole():
    assert seen("Clear lungs: no effusion.") == ("Clear lungs: no effusion.", 0)


@given(st.text())
def test_any_text_can_be_read(text):
    said, left_out = seen(text)
    assert left_out >= 0
    assert said == text or said == caption(text)
