import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.errors import InputError
from raydistill.data.pseudonyms import MIN_KEY_BYTES, key_digest, pseudonym, pseudonymised, read_key
from raydistill.data.rows import RawRow, parse_row

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def test_is_an_hmac_and_says_nothing_without_the_key():
    expected = hmac.new(KEY, b"patient/MRN-1", hashlib.sha256).hexdigest()
    assert pseudonym(KEY, "patient", " MRN-1 ") == expected[:32]
    assert (
        pseudonym(OTHER, "patient", "MRN-1") != pseudonym(KEY, "patient", "MRN-1") != pseudonym(KEY, "image", "MRN-1")
    )


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_who_was_one_stays_one_and_nobody_becomes_another(names):
    rows = list(pseudonymised((RawRow(i, patient_id=name, image_id=name) for i, name in enumerate(names)), KEY))
    for ids in ([row.patient_id for row in rows], [row.image_id for row in rows]):
        pairs = {(name.strip(), hashed) for name, hashed in zip(names, ids, strict=True)}
        assert len(pairs) == len({name for name, _ in pairs}) == len({hashed for _, hashed in pairs})
        assert all(hashed is None for name, hashed in pairs if not name)
    assert all(row.row == i for i, row in enumerate(rows))


def test_places_are_taken_out_and_problems_stay():
    (row,) = pseudonymised([RawRow(0, origin="Lovelace/1.dcm", problem=("undecodable", "x"))], KEY)
    assert (row.origin, row.problem, row.patient_id) == (None, ("undecodable", "x"), None)


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"age": "DOE JOHN"}, "age is "),
        ({"labels": {"O'Neil": 1}}, "labels is "),
        ({"age": 'Jo "O\'N" Doe'}, "age is "),
    ],
)
def test_what_stands_in_a_bad_field_is_not_shown(values, left):
    (row,) = pseudonymised([parse_row(0, values, None)], KEY)
    assert row.problem[0] == "bad_field"
    assert row.problem[1].startswith(f"{left}(what stands there isn't shown")
    assert not re.search("DOE|Neil|Doe", row.problem[1])


def test_a_key_that_hides_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="hides no id"):
        next(pseudonymised([RawRow(0)], b""))
    (tmp_path / "short").write_bytes(b"x" * (MIN_KEY_BYTES - 1))
    with pytest.raises(InputError, match="holds 31 bytes"):
        read_key(str(tmp_path / "short"))
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_key(str(tmp_path / "none"))
    (tmp_path / "key").write_bytes(KEY)
    assert read_key(str(tmp_path / "key")) == KEY
    assert key_digest(KEY) != key_digest(OTHER)
