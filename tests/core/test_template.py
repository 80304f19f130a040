"""A configuration to begin with says what holds anyway, and its schema knows what is right and what isn't."""

import re
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml

from raydistill.core.config import Preset
from raydistill.core.loading import load_config
from raydistill.core.template import schema, template

ROOT = Path(__file__).parents[2]
SETTING = re.compile(r"^# (?=# |  |\w+:)", re.MULTILINE)
CONFIGURATIONS = ("jobs/*.yaml", "benchmarks/*.yaml", "tests/golden/*.yaml", "raydistill/core/presets/*.yaml")


@pytest.mark.parametrize("preset", get_args(Preset))
@pytest.mark.parametrize("source", [[], ["source.path=a.parquet"], ["source={kind: image_folder, path: 's3://a/b'}"]])
def test_commented_out_is_what_holds_anyway(tmp_path, preset, source):
    config = load_config(None, [f"preset={preset}", "name=mine", *source])
    said, all_of_it = tmp_path / "mine.yaml", tmp_path / "all.yaml"
    said.write_text(template(config))
    all_of_it.write_text(SETTING.sub("", said.read_text()))
    assert set(yaml.safe_load(said.read_text())) == {"name", "preset", "source"}
    assert set(yaml.safe_load(all_of_it.read_text())) == set(type(config).model_fields)
    assert load_config(said) == load_config(all_of_it) == config


def test_a_kind_of_section_is_explained_once_and_choices_are_listed():
    text = template(load_config(None, ["preset=laptop"]))
    assert text.count("CPUs a worker claims.") == 1
    assert "One of fp32, bf16, fp16." in text
    assert "# student: {}  # the defaults are those of teacher" in text


def test_the_schema_takes_every_configuration_there_is():
    checked = jsonschema.Draft202012Validator(schema())
    files = [file for pattern in CONFIGURATIONS for file in ROOT.glob(pattern)]
    assert len(files) > 8
    for file in files:
        checked.validate(yaml.safe_load(file.read_text()))


def test_the_schema_takes_an_environment_variable_for_any_value():
    checked = jsonschema.Draft202012Validator(schema())
    checked.validate({"seed": "${SEED}", "preset": "${WHERE}", "tune": {"num_trials": "${TRIALS}"}})
    checked.validate(
        {"source": {"kind": "parquet", "path": "${COHORT}"}, "tune": {"space": {"target_fpir": ["${LOW}", 0.05]}}}
    )
    assert not checked.is_valid({"tune": {"num_trials": "$TRIALS"}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"tuna": {}},
        {"tune": {"num_trails": 3}},
        {"tune": {"num_trials": "many"}},
        {"source": {"kind": "floppy"}},
        {"preset": "mainframe"},
        {"tune": {"space": {"target_fpir": 1.5}}},
    ],
)
def test_the_schema_takes_no_mistake(wrong):
    assert not jsonschema.Draft202012Validator(schema()).is_valid(wrong)
    assert jsonschema.Draft202012Validator(schema()).is_valid({"tune": {"space": {"target_fpir": [0.01, 0.02]}}})
