"""What prompts give away: who shares them, marks in them, and linkage beyond what looks alike."""

import numpy as np
import pytest

from raydistill.data.vocabulary import Fields, says_no_more
from raydistill.metrics.gate import prompt_checks
from raydistill.metrics.prompts import marked_prompts, prompt_k, prompt_linkage, rare_attributes

MASS, EFFUSION = frozenset({"finding=mass"}), frozenset({"finding=effusion"})
NOTHING = frozenset()


def test_the_rarest_prompt_counts_and_the_one_that_says_nothing_does_not():
    asked = {"chest x-ray": NOTHING, "chest x-ray, mass": MASS, "chest x-ray, effusion": EFFUSION}
    found = prompt_k(asked, {"chest x-ray": 1, "chest x-ray, mass": 5, "chest x-ray, effusion": 9}, {}, 0.95)
    assert found.value == 5
    assert found.note == "2 prompts, 0 not of train records, of which 0 fit nobody; 1 as rare as this"
    assert prompt_checks({"prompt_k": found}, 5)[0].outcome == "pass"


def test_prompts_that_nobody_can_read_are_no_evidence_of_anonymity():
    for more in ({}, {"chest x-ray, mass": MASS}):
        found = prompt_k({"a lady with dextrocardia": NOTHING, **more}, {"chest x-ray, mass": 12}, {}, 0.95)
        assert (found.value, found.n) == (None, 1)
        assert prompt_checks({"prompt_k": found}, 5)[0].outcome == "insufficient_evidence"


def test_where_no_prompt_says_anything_of_a_train_patient_there_is_nothing_to_hold():
    for asked in ({"chest x-ray": NOTHING}, {"hernia": frozenset({"finding=hernia"})}):
        found = prompt_k(asked, {"chest x-ray": 1}, {"p": [MASS]}, 0.95)
        assert (found.value, found.n) == (None, 0)
        assert prompt_checks({"prompt_k": found}, 5) == []


def test_what_two_records_of_a_patient_say_isnt_what_one_says():
    people = {"p": [MASS, EFFUSION], "q": [MASS | EFFUSION]}
    assert prompt_k({"a mass and fluid": MASS | EFFUSION}, {}, people, 0.95).value == 1


def test_a_prompt_of_somebodys_own_singles_out_whom_it_fits():
    people = {"p": [MASS | EFFUSION], "q": [MASS], "r": [EFFUSION]}
    found = prompt_k({"a mass and fluid": MASS | EFFUSION, "a mass": MASS}, {}, people, 0.95)
    assert found.value == 1
    assert prompt_k({"a mass": MASS}, {}, people, 0.95).value == 2
    assert prompt_k({"hernia": frozenset({"finding=hernia"})}, {}, people, 0.95).value is None


def test_words_that_no_field_stands_for_are_not_read():
    """A prompt with a finding, and words that point at one person."""
    mass = Fields(labels=("mass",))
    assert says_no_more("Chest X-ray of a patient with a mass", mass)
    assert not says_no_more("chest x-ray of a retired jockey with a mass", mass)


def test_marks_are_found_and_counted_once_a_prompt():
    found = marked_prompts(["effusion since ___", "effusion since ___", "effusion", "seen 2020-01-31"], 0.95)
    assert found.value == pytest.approx(2 / 3)
    assert found.note == "found: date, deidentification_mark"
    assert marked_prompts(["effusion"], 0.95).value == 0
    assert marked_prompts([], 0.95).value is None


PEOPLE = {f"t{i}": frozenset({"sex=female", *(["finding=hernia"] if i < 40 else [])}) for i in range(600)}
OTHERS = {name.replace("t", "u"): own for name, own in PEOPLE.items()}


def test_an_attribute_is_rare_below_a_tenth():
    assert rare_attributes(PEOPLE) == {"finding=hernia"}


def linkage(train, unseen, asked=40):
    wanted = [frozenset({"finding=hernia", "sex=female"})] * asked
    return prompt_linkage(wanted, [[t] for t in train], [[u] for u in unseen], PEOPLE, OTHERS, 0.95)


def test_a_model_that_shows_the_patient_behind_the_prompt_is_found():
    rng = np.random.default_rng(0)
    train = [f"t{rng.integers(40)}" for _ in range(40)]
    unseen = [f"u{rng.integers(600)}" for _ in range(40)]
    found = linkage(train, unseen)
    assert found.value > 0.8
    assert found.interval[0] > 0


def test_what_shows_the_finding_but_no_patient_is_as_near_to_strangers_who_have_it():
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        sides = [[f"{side}{rng.choice([rng.integers(40), rng.integers(600)])}" for _ in range(80)] for side in "tu"]
        low, high = linkage(*sides, asked=80).interval
        held.append(low <= 0 <= high)
    assert 0.93 <= np.mean(held) <= 0.99


def test_all_parts_of_the_galleries_count():
    """Who has the finding is nearest in every other part; among strangers nobody has it."""
    wanted = [frozenset({"finding=hernia"})] * 40
    train, unseen = [["t1", "t500"]] * 20 + [["t501", "t2"]] * 20, [["u500", "u501"]] * 40
    assert prompt_linkage(wanted, train, unseen, PEOPLE, OTHERS, 0.95).value == pytest.approx(0.5)


def test_few_samples_say_nothing():
    assert linkage(["t1"] * 19, ["u1"] * 19, asked=19).value is None
