"""The certificate's form: what is published is what is written."""

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from raydistill.metrics.certificate import Certificate, json_schema

CERTIFICATE = {
    "schema": 4,
    "decided": "2026-01-31",
    "verdict": "fail",
    "reasons": ["…"],
    "student": {
        "key": "k",
        "digest": "d",
        "inputs": {"rows": {"node": "student_latents", "folder": "train", "key": "k", "digest": "d"}},
        "started_from": None,
        "touched_real_data": [],
    },
    "cohort": {"train": {"images": 60, "patients": 30}, "probe": {"images": 12, "patients": "fewer than 11"}},
    "roles_given": False,
    "samples": {"as asked for by default": 512, "asked harder": 1024},
    "filter": {"identity_threshold": 0.5},
    "budgets": {"max_excess_risk": 0.05},
    "settings": {"evaluate": {"confidence": 0.95}, "prompts": {"k": 5}},
    "evaluations": 1,
    "decisions": 1,
    "evidence": {"student": {"key": "k", "digest": "d"}},
    "limits": "No formal guarantee.",
}


def validate(content):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.validate(content, json_schema(), format_checker=checker)


def test_the_published_schema_is_the_one_that_is_written():
    published = Path(__file__).parents[2] / "docs" / "certificate.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(json_schema()))


def test_a_certificate_keeps_to_its_schema():
    written = Certificate(**CERTIFICATE).model_dump(mode="json", by_alias=True)
    assert written == CERTIFICATE
    validate(written)


@pytest.mark.parametrize(
    "changed",
    [
        *({"verdict": "perhaps"}, {"schema": 3}, {"patient": "x"}, {"student": {}}),
        *({"decided": "yesterday"}, {"cohort": {"train": {"images": 60}}}, {"samples": {"asked harder": "many"}}),
    ],
)
def test_anything_else_is_refused_by_either(changed):
    with pytest.raises(ValidationError):
        Certificate(**{**CERTIFICATE, **changed})
    with pytest.raises(jsonschema.ValidationError):
        validate({**CERTIFICATE, **changed})
