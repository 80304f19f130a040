"""The command line: a user's mistake is one line and exit code 2, never a traceback."""

import pytest
from typer.testing import CliRunner

from raydistill.cli import app


def said(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", ["status", "verify", "report"])
def test_a_folder_that_is_no_run(command, tmp_path):
    result = said(command, str(tmp_path))
    assert result.exit_code == 2
    assert "is it a run folder?" in result.output


def test_a_damaged_configuration_in_a_run_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("schema: 1\ntune: {num_trails: 3}\n")
    result = said("verify", str(tmp_path))
    assert result.exit_code == 2
    assert "unknown key tune.num_trails; did you mean num_trials?" in result.output
    assert result.output.count("\n") == 1


def test_mistakes_before_anything_starts(tmp_path):
    for arguments, message in [
        (["--config", str(tmp_path / "none.yaml")], "no configuration file at"),
        (["--set", "source.kind=parquet", "--set", f"source.path={tmp_path}/none.parquet"], "none.parquet"),
        (["--set", "seeed=1"], "did you mean seed?"),
    ]:
        result = said("run", *arguments, "--run-dir", str(tmp_path / "run"))
        assert result.exit_code == 2, result.output
        assert message in result.output.replace("\n", "")
        assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()
