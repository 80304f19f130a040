from raydistill.stages.prompts import _attributes, _bands


def test_a_record_and_a_request_for_it_say_the_same():
    bands = _bands(["40 to 59", None, "60 to 79", "40 to 59"])
    request = {"labels": ["hernia"], "view": "pa", "sex": "female", "age_band": "40 to 59"}
    record = {"labels": ["hernia"], "view": "PA", "sex": "F", "age": 59.5}
    assert _attributes(record, bands) == _attributes(request, bands)
    assert "age=40 to 59" in _attributes(request, bands)
    assert _attributes(record | {"age": 60.0}, bands) - _attributes(request, bands) == {"age=60 to 79"}
    assert _attributes({"labels": None, "view": None, "sex": None, "age": None}, bands) == frozenset()
