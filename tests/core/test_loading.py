"""Configuration files and overrides: what is right gets through, what is wrong gets one line."""

import pytest

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError
from raydistill.core.loading import load_config, setting_names
from raydistill.core.sources import ImageFolderSource, ParquetSource


def test_the_defaults_are_valid_and_frozen():
    config = load_config(None)
    assert config == Config()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_overrides_have_types_and_win(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\nteacher_samples: {num_samples: 7}\n")
    config = load_config(path, ["teacher_samples.num_samples=9", "selftest.strengths=[0.1, 0.2]", "seed=4"])
    assert (config.name, config.seed, config.teacher_samples.num_samples) == ("mine", 4, 9)
    assert config.selftest.strengths == (0.1, 0.2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuna.num_trials=3", r"tuna: unknown key; did you mean tune\?"),
        ("tune.num_trails=3", r"tune.num_trails: unknown key; did you mean num_trials\?"),
        ("tune.num_trials=many", "tune.num_trials: .*integer.*'many'"),
        ("tune.num_trials=0", "tune.num_trials: .*greater than 0"),
        ("teacher.compute.num_workers=two", "num_workers: [^;]*integer[^;]* or [^;]*tuple[^;]*$"),
        ("seed", "must look like section.key=value"),
        ("seed.deeper=1", "seed.*valid integer|seed is a value"),
        ("source.kind=dicon", r"source: kind 'dicon' is unknown; did you mean dicom\? Known here: .*parquet"),
        ("source.kind=dicom", "source.dicom.path: missing"),
        ("source={kind: nih_cxr14, path: x, pseudonym_key: y}", "pseudonym_key without pseudonymise"),
        ("source={kind: dicom, path: x, pseudonymise: false}", "source.dicom.pseudonymise: .*True"),
        (
            "source={kind: csv, path: x, columns: {patient: MRN}}",
            "source.csv.columns.patient: 'patient' is unknown; did you mean patient_id",
        ),
        ("source.patients=5", r"source.phantom.patients: unknown key"),
        ("eyes.auditor.backbone.kind=resnet", "graded by its own filter"),
        ("eyes.judge.backbone.kind=resnet", "settings would be graded by itself"),
        ("eyes.judge.backbone.kind=regnet", "by what chose its filter's settings"),
        ("name=a/b", "name: .*pattern"),
    ],
)
def test_mistakes_are_named_in_one_line(override, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(None, ["source.kind=phantom", override])
    assert "\n" not in str(error.value)


def leaves(values, at=""):
    for key, value in values.items():
        yield from leaves(value, f"{at}{key}.") if isinstance(value, dict) and value else [f"{at}{key}"]


def test_every_setting_has_a_name_that_can_be_set():
    names = setting_names()
    assert len(names) == len(set(names))
    without = set(leaves(load_config(None).model_dump())) - set(names)
    assert all(any(name.startswith(f"{section}.") for name in names) for section in without)
    assert {"audited.images", "teacher.lora.rank", "source.pseudonym_key", "evaluate.metrics"} <= set(names)


ANCHORS = """
eyes:
  filter: {seed: 1, optimizer: &eye {steps: 50}}
  judge: {seed: 2, optimizer: *eye}
teacher: &model {optimizer: {steps: 600}}
student: *model
"""


def test_an_override_changes_what_it_names_and_nothing_that_shares_its_yaml(tmp_path):
    path = tmp_path / "anchors.yaml"
    path.write_text(ANCHORS)
    config = load_config(path, ["teacher.optimizer.steps=5", "eyes.filter.optimizer.steps=7"])
    assert (config.teacher.optimizer.steps, config.student.optimizer.steps) == (5, 600)
    assert [eye.optimizer.steps for eye in (config.eyes.filter, config.eyes.judge)] == [7, 50]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nname: a\nseed: 2\n", "line 3: seed is there already, in line 1"),
        ("tune:\n  num_trials: 3\n  'num_trials': 4\n", "line 3: num_trials is there already, in line 2"),
        ("ingest: {resolution: 8, resolution: 8}\n", "line 1: resolution is there already, in line 1"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path, text, message):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path} can't be read as YAML: {message}"


def test_what_an_override_leaves_alone_stays_at_its_own_default():
    default = Config()
    overrides = ["teacher.optimizer.steps=5", "eyes.judge.embedding_dim=64", "eyes.filter.compute.num_cpus=2"]
    config = load_config(None, overrides)
    assert config.teacher.optimizer == default.teacher.optimizer.model_copy(update={"steps": 5})
    assert config.eyes.judge == default.eyes.judge.model_copy(update={"embedding_dim": 64})
    assert config.eyes.filter.compute.num_workers == default.eyes.filter.compute.num_workers


def test_any_configuration_takes_another_cohort(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text("source: {kind: phantom, num_patients: 9}")
    assert load_config(path, ["source.path=x.parquet"]).source == ParquetSource(kind="parquet", path="x.parquet")
    (tmp_path / "metadata.csv").write_text("")
    assert load_config(path, [f"source.path={tmp_path}"]).source.kind == "image_folder"
    other = tmp_path / "other.yaml"
    other.write_text("source: {kind: parquet, path: x}")
    assert load_config(other, [f"source.path={tmp_path}"]).source.kind == "image_folder"
    assert load_config(other, ["source.path=s3://bucket/folder"]).source.kind == "parquet"
    other.write_text("source: {kind: image_folder, path: x}")
    assert load_config(other, ["source.path=y.parquet"]).source.kind == "parquet"
    assert load_config(other, ["source.path=s3://bucket/folder"]).source.kind == "image_folder"
    changed = load_config(path, ["source.kind=image_folder", "source.path=y"])
    assert changed.source == ImageFolderSource(kind="image_folder", path="y")
    assert load_config(path, ["source.num_patients=10"]).source.num_patients == 10


def test_a_file_lies_wherever_a_run_folder_does(tmp_path):
    """A run's own configuration, as `raydistill tune` says how to go on, may be an object of a store."""
    (tmp_path / "mine.yaml").write_text("seed: 7")
    uri = (tmp_path / "mine.yaml").as_uri()
    assert load_config(uri, ["tune.num_trials=3"]) == load_config(tmp_path / "mine.yaml", ["tune.num_trials=3"])
    with pytest.raises(ConfigError, match=f"no configuration file at {uri}.none"):
        load_config(f"{uri}.none")


def test_an_address_with_a_password_is_refused_wherever_it_stands_and_not_said_again(monkeypatch):
    monkeypatch.setenv("TRACKING", "https://me:Tr0ub4dor@mlflow.example/x")
    for override in ("source.path=s3://me:Tr0ub4dor@bucket/x", "tracking.mlflow={tracking_uri: '${TRACKING}'}"):
        with pytest.raises(ConfigError, match="is an address with a password in it") as refused:
            load_config(None, [override])
        assert "Tr0ub4dor" not in str(refused.value)
    load_config(None, ["tracking.mlflow={tracking_uri: 'https://me@mlflow.example:5000/x'}"])


def test_a_missing_file_and_broken_yaml_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file at"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="can't be read as YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must hold keys and values"):
        load_config(tmp_path / "list.yaml")


def test_environment_variables_fill_in_and_are_named_when_absent(tmp_path, monkeypatch):
    path = tmp_path / "e.yaml"
    path.write_text("source: {kind: parquet, path: '${SOME_COHORT}/x.parquet'}")
    monkeypatch.delenv("SOME_COHORT", raising=False)
    with pytest.raises(ConfigError, match="environment variable SOME_COHORT"):
        load_config(path)
    assert load_config(path, ["source.path=y"]).source.path == "y"
    monkeypatch.setenv("SOME_COHORT", "/data")
    assert load_config(path).source.path == "/data/x.parquet"
