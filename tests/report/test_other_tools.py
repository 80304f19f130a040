"""What docs/bundle.md says can be done with a bundle works as it stands there, where raydistill can't be imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.config import Config
from raydistill.core.training import DiffusionConfig
from raydistill.diffusion.components import prepare_initial
from raydistill.report.bundle import publish
from tests.report.builder import build

TEXT = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]

ALONE = """
import sys
sys.modules["raydistill"] = None
try:
    import raydistill
except ImportError:
    pass
else:
    raise SystemExit("raydistill can be imported")
for snippet in sys.argv[1:]:
    found = {}
    exec(snippet, found)
    shown = found.get("first", found.get("image", found.get("synthetic")))
    print("made", type(shown).__name__, getattr(shown, "size", None))
print("raydistill here:", [name for name in sys.modules if name.startswith("raydistill.")])
"""
"""Isolated (-I): neither PYTHONPATH nor the working directory is searched, and the package's name is barred."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that holds release/, with a student that makes pictures."""
    above = tmp_path_factory.mktemp("made")
    prepare_initial(
        DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32), resolution=32, seed=3, folder=above / "model"
    )
    config = Config(name="phantom", release={"more_formats": ["webdataset", "image_folder"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.report.html.get_plotlyjs", lambda: "")
        publish(*build(above, config, model=above / "model"))
    return above


def test_other_people_s_tools_open_it_without_raydistill(folder, tmp_path):
    assert len(SNIPPETS) == 6
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    line = [sys.executable, "-I", "-c", ALONE, *SNIPPETS]
    done = subprocess.run(line, cwd=folder, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [said for said in done.stdout.splitlines() if said.startswith(("made", "raydistill"))]
    assert made == [
        "made tuple None",
        "made PngImageFile (32, 32)",
        "made dict None",
        "made tuple None",
        "made Dataset None",
        "made Image (32, 32)",
        "raydistill here: []",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_work(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    if command.startswith("raydistill "):
        result = CliRunner().invoke(app, command.split()[1:])
        assert (result.exit_code, "Traceback" in result.output) == (0, False), result.output
        return
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_names_every_file_of_a_bundle(folder):
    top = {path.name for path in (folder / "release").iterdir()}
    assert not [name for name in top if f"`{name}" not in TEXT]
