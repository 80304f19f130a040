"""The search on the page: who is ringed, what a missing utility is replaced by, what has nothing to show."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from raydistill.report import trials as drawing
from raydistill.report.evidence import Evidence
from raydistill.report.settings import importances, parallel, why_no_importances
from raydistill.report.trials import frontier
from tests.report.builder import build

NAN = float("nan")


def trial(utility, **extra):
    row = {
        "target_fpir": 0.1,
        "near_copy_fpir": 0.01,
        "kept_share": 0.6,
        "utility": utility,
        "objective": utility,
        "dropped": ["s1"],
    }
    return row | {"risk": 0.01, "risk_high": 0.05, "feasible": True, "pareto": False, "chosen": True} | extra


@pytest.fixture
def evidence(tmp_path):
    """Return a run, and what puts other trials into it."""
    runner, _ = build(tmp_path)

    def put(*trials, utility=None, why=""):
        table = pa.Table.from_pylist(list(trials))
        if utility is not None:
            table = table.set_column(table.column_names.index("utility"), "utility", utility)
        runner.artifact("tune", "0123456789abcdef").write_table("trials/part-00000.parquet", table)
        runner.manifests["tune"] = runner.manifests["tune"].model_copy(update={"facts": {"why": why} if why else {}})
        return Evidence(runner)

    return put


def test_the_chosen_setting_is_ringed_and_an_infeasible_one_is_a_cross(evidence):
    trials = [
        trial(0.7),
        trial(0.8, feasible=False, chosen=False, risk_high=0.4),
        trial(0.6, pareto=True, chosen=False),
    ]
    drawn, ring = frontier(evidence(*trials), public=False).plot.data
    assert list(drawn.marker.symbol) == ["circle", "x-thin-open", "diamond"]
    assert (list(ring.x), list(ring.y)) == ([0.05], [0.7])


def test_pointing_at_a_trial_tells_its_setting_and_inside_what_it_dropped(evidence):
    run = evidence(trial(0.7, patient_quota=3))
    inside, outside = (frontier(run, public=public).plot.data[0] for public in (False, True))
    assert "FPIR, identity: 0.1<br>" in inside.customdata[0]
    assert "samples a patient: 3" in inside.customdata[0]
    assert inside.meta["dropped"] == [["s1"]]
    assert outside.meta is None


EQUAL = [
    trial(0.6, chosen=False, dropped=["s1", "s2"]),
    trial(0.7, chosen=False, dropped=["s1", "s2", "s3"]),
    trial(0.8, dropped=["s3"]),
    trial(0.5, chosen=False, risk_high=0.2, dropped=[]),
]
"""Three of the same risk, the last of which was chosen."""


def test_the_grid_opens_on_the_chosen_setting_also_among_those_of_equal_risk(evidence):
    meta = frontier(evidence(*EQUAL), public=False).plot.data[0].meta
    assert meta["dropped"][meta["chosen"]] == ["s3"]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here to run the page's script")
def test_the_script_shows_the_chosen_setting_then_what_one_points_at_or_selects(evidence):
    figure = frontier(evidence(*EQUAL), public=False)
    script = Path(drawing.__file__).parent / "templates" / "page.js"
    given = {"figure": json.loads(figure.plot.to_json()), "samples": ["s1", "s2", "s3"], "script": script.read_text()}
    said = subprocess.run(
        ["node", Path(__file__).with_name("browser.js")], input=json.dumps(given), capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    steps = {step["did"]: (step["faded"], step["said"], step["selected"]) for step in json.loads(said.stdout)}
    assert steps["opened"] == (["s3"], "2 of 3 kept", 2)
    assert steps["pointed at 1"] == (["s1", "s2", "s3"], "0 of 3 kept", 1)
    assert steps["pointed at the ring"] == steps["pointed at 1"]
    assert steps["selected 3"] == ([], "3 of 3 kept", 3)


@pytest.mark.parametrize("missing", [None, NAN])
def test_without_any_utility_the_share_kept_takes_its_place(evidence, missing):
    figure = frontier(evidence(trial(missing), trial(missing, kept_share=0.3)), public=True)
    assert list(figure.plot.data[0].y) == [0.6, 0.3]
    assert "no AUROC" in figure.plot.layout.yaxis.title.text
    assert [row[figure.header.index("utility")] for row in figure.rows] == [None, None]


def test_settings_that_hardly_differ_do_not_look_far_apart(evidence):
    low, high = frontier(evidence(trial(0.7), trial(0.701)), public=True).plot.layout.yaxis.range
    assert math.isclose(high - low, 0.12)


def test_a_setting_whose_utility_could_not_be_measured_stands_at_the_foot_and_is_ringed(evidence):
    trials = [trial(0.7, chosen=False), trial(0.75, chosen=False, risk_high=0.1), trial(NAN, risk_high=0.02)]
    figure = frontier(evidence(*trials), public=False)
    drawn, ring = figure.plot.data
    low, _ = figure.plot.layout.yaxis.range
    assert list(drawn.y[:2]) == [0.7, 0.75]
    assert low < drawn.y[2] < 0.67
    assert (list(ring.x), list(ring.y)) == ([0.02], [drawn.y[2]])
    assert "stand 1 of which no AUROC" in figure.caption


def test_settings_that_come_to_the_same_are_counted(evidence):
    same = [trial(0.7), trial(0.7, target_fpir=0.2, chosen=False), trial(0.8, chosen=False)]
    assert "the 3 settings come to 2 different outcomes" in frontier(evidence(*same), public=True).caption
    assert "different outcomes" not in frontier(evidence(*same[1:]), public=True).caption


def test_which_bounds_a_setting_breaks_is_said_where_one_points(evidence):
    bounds = {"breaks_risk": 0.0234, "breaks_kept_share": -0.1, "breaks_taught": 1.0}
    figure = frontier(evidence(trial(0.7, feasible=False, **bounds)), public=True)
    assert (
        figure.plot.data[0]
        .customdata[0]
        .endswith("too many taken for a train patient by the judge, by 0.023<br>nothing to learn from")
    )
    assert (
        "(1 of 1 settings come to too many taken for a train patient by the judge (tune.max_reidentification_rate), 1 to nothing"
        in (figure.caption)
    )


@pytest.mark.parametrize("utility", [pa.nulls(2, pa.float64()), pa.nulls(2), pa.array([NAN, NAN])])
def test_a_search_where_nothing_was_feasible_says_so(evidence, utility):
    run = evidence(trial(0.0, feasible=False), trial(0.0, feasible=False, chosen=False), utility=utility)
    assert "No setting kept every bound" in frontier(run, public=True).caption


def test_all_settings_at_once_are_those_that_vary(evidence):
    run = evidence(trial(0.7), trial(0.8, target_fpir=0.01, chosen=False))
    figure = parallel(run)
    assert list(figure.header) == ["FPIR, identity", "AUROC, probe"]
    # The chosen one is drawn last.
    assert [list(line.y) for line in figure.plot.data] == [[0, 1], [1, 0]]
    assert [line.showlegend for line in figure.plot.data] == [False, True]
    assert {note.text for note in figure.plot.layout.annotations} == {"0.01", "0.1", "0.7", "0.8"}
    assert parallel(evidence(trial(0.7), trial(0.7))) is None


def test_a_line_ends_where_nothing_was_measured_and_keeps_the_axis_for_the_others(evidence):
    missing = trial(NAN, target_fpir=0.01, kept_share=0.1, chosen=False)
    figure = parallel(evidence(trial(0.7), trial(0.8, target_fpir=0.03, chosen=False), missing))
    assert list(figure.header) == ["FPIR, identity", "share kept", "AUROC, probe"]
    assert [list(line.y)[-1] for line in figure.plot.data] == [1, None, 0]
    assert "A line ends" in figure.caption


def test_what_hardly_differs_isn_t_drawn_from_top_to_bottom(evidence):
    figure = parallel(evidence(trial(0.455, kept_share=0.99), trial(0.457, kept_share=1.0, target_fpir=0.01)))
    assert [list(line.y) for line in figure.plot.data] == [[1, 0.9, 0.49], [0, 1, 0.51]]
    ends = [note.text for note in figure.plot.layout.annotations]
    assert ends == ["0.01", "0.1", "0.9", "1", "0.406", "0.506"]


def test_importances_of_a_single_setting_are_not_drawn(evidence):
    run = evidence(trial(0.7))
    assert list(importances(run).rows) == [("FPIR, near-copies", 0.7), ("FPIR, identity", 0.3)]
    store = run.artifacts.artifact("tune", "0123456789abcdef")
    store.write_table("importances/part-00000.parquet", pa.table({"setting": ["balance"], "importance": [1.0]}))
    assert importances(run) is None
    assert why_no_importances(run).endswith("nothing was searched.")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"target_fpir": 0.2}, "only one was searched: FPIR, identity."),
        ({"target_fpir": 0.2, "balance": 0.5}, "the same for all 2 that were tried."),
        (
            {"target_fpir": 0.2, "balance": 0.5, "objective": 0.8},
            "the settings of the 2 that were tried don't foretell what the search maximises.",
        ),
    ],
)
def test_why_it_is_not_drawn_which_setting_matters_is_said(evidence, other, said):
    run = evidence(trial(0.7, balance=0.1), trial(0.7, **{"balance": 0.1} | other))
    assert why_no_importances(run) is None
    run.artifacts.artifact("tune", "0123456789abcdef").delete("importances/part-00000.parquet")
    assert why_no_importances(run).endswith(said)


def test_why_a_setting_was_chosen_is_said_where_it_is_ringed(evidence):
    other, why = {"target_fpir": 0.01, "chosen": False}, "chosen by networks' AUROC: 0.71, the best"
    for said in (why, ""):
        run = evidence(trial(0.7), trial(0.8, **other), why=said)
        for drawn in (frontier(run, public=True), parallel(run)):
            assert (f"It was {why}." in drawn.caption) is bool(said)
            assert said or "It was" not in drawn.caption


def test_what_the_rank_agreement_was_measured_on_is_told_but_isn_t_an_axis(evidence):
    run = evidence(trial(0.7, agreement_utility=0.68), trial(0.8, target_fpir=0.01, chosen=False))
    figure = frontier(run, public=True)
    assert "drawn by chance: 0.68" in figure.plot.data[0].customdata[0]
    assert "agreement_utility" in figure.header
    assert not any("drawn by chance" in str(text) for text in parallel(run).plot.layout.xaxis.ticktext)


def test_short_students_are_told_of_where_there_are_any(evidence):
    looked = {"network_utility": 0.7, "student_utility": 0.66}
    run = evidence(trial(0.7, **looked), trial(0.8, target_fpir=0.01, chosen=False, network_utility=0.6))
    figure = frontier(run, public=True)
    chosen, other = figure.plot.data[0].customdata
    assert "AUROC, short student: 0.66" in chosen
    assert "short student" not in other
