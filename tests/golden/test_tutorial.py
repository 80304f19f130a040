"""The notebook of the docs, cell by cell, on the run that the golden tests made."""

import pytest

from tests.golden.conftest import MICRO, ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def test_the_tutorial_runs_from_its_first_cell_to_its_last(golden, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("RAYDISTILL_TUTORIAL_CONFIG", str(MICRO))
    monkeypatch.setenv("RAYDISTILL_TUTORIAL_RUN", golden["uri"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    done = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    said = [cell.outputs for cell in done.cells if cell.cell_type == "code"]
    assert all(said)
    assert said[0][-1]["data"]["text/plain"] == repr(golden["summary"]["verdict"])
    assert golden["summary"]["reasons"][0] in said[1][0]["text"]
    assert any("image/png" in output.get("data", {}) for outputs in said for output in outputs)
