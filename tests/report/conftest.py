import pytest


@pytest.fixture
def without_plotly(monkeypatch):
    """Leave plotly's own script, four megabytes of every page, out of those rendered in a test."""
    monkeypatch.setattr("raydistill.report.html.get_plotlyjs", lambda: "")
