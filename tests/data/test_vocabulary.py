import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.vocabulary import (
    FINDINGS,
    SEXES,
    VIEWS,
    Fields,
    age_band,
    findings,
    plain_words,
    template_texts,
)


def test_prompts_read_as_the_template_says():
    full = Fields(("effusion", "nodule"), "pa", "female", "40 to 59")
    assert full.prompt() == "chest x-ray, pa view, female, age 40 to 59, effusion and nodule"
    assert Fields(()).prompt() == "chest x-ray, no finding"
    assert Fields(None, sex="male").prompt() == "chest x-ray, male"
    assert Fields().prompt() == "chest x-ray"


def test_labels_become_sorted_words_once():
    assert findings(["Pleural_Thickening", "Mass", "mass ", "MASS"]) == ["mass", "pleural thickening"]
    assert findings(["No Finding"]) == findings(["no_finding"]) == findings([""]) == []


@given(st.floats(0, 120), st.integers(1, 40))
def test_an_age_lies_in_its_band(age, years):
    first, last = map(int, age_band(age, years).split(" to "))
    assert first <= age < last + 1
    assert last - first == years - 1
    assert first % years == 0


@given(st.text())
def test_plain_words_are_idempotent(value):
    assert plain_words(plain_words(value)) == plain_words(value)


def test_template_texts_hold_every_word_and_never_change():
    texts = list(template_texts())
    assert texts == list(template_texts())
    words = set(re.findall(r"[a-z]+|\d", " ".join(texts)))
    spoken = " ".join([*FINDINGS, *VIEWS.values(), *SEXES.values(), "chest x-ray, no finding and view age to"])
    assert set(re.findall("[a-z]+", spoken)) <= words
    assert set("0123456789") <= words
    numbers = {int(number) for number in re.findall(r"\d+", " ".join(texts))}
    assert set(range(121)) <= numbers


@pytest.mark.parametrize("word", [*FINDINGS, *VIEWS.values(), *SEXES.values()])
def test_words_are_plain(word):
    assert plain_words(word) == word
