import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.columns import JUDGED, VERDICTS
from raydistill.core.config import FilterConfig
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.section import Import
from raydistill.matching.policy import REASONS, Policy, ThresholdPolicy, judged, make_policy, policy_at

scores = st.one_of(st.none(), st.floats(-1, 1, width=32))
rows = st.lists(st.tuples(scores, scores), max_size=40)
thresholds = st.floats(-1, 1, width=32)


def matches(pairs):
    columns = dict.fromkeys(JUDGED, ["x"] * len(pairs)) | {
        "query_id": [f"s{i}" for i in range(len(pairs))],
        "score": pa.array([a for a, _ in pairs], pa.float32()),
        "structure_score": pa.array([b for _, b in pairs], pa.float32()),
    }
    return pa.table(columns)


def judge(pairs, identity, near_copy):
    policy = Policy(identity_threshold=identity, near_copy_threshold=near_copy, target_fpir=0.05, near_copy_fpir=0.05)
    return ThresholdPolicy(policy).judge(matches(pairs))


@given(rows, thresholds, thresholds)
def test_every_sample_has_one_row_and_is_kept_for_one_reason_only(pairs, identity, near_copy):
    verdicts = judge(pairs, identity, near_copy)
    assert verdicts.schema.equals(VERDICTS)
    assert verdicts["sample_id"].to_pylist() == matches(pairs)["query_id"].to_pylist()
    assert verdicts["keep"].to_pylist() == [reason == "kept" for reason in verdicts["reason"].to_pylist()]
    assert set(verdicts["reason"].to_pylist()) <= set(REASONS)


@given(rows, thresholds, thresholds, thresholds, thresholds)
def test_a_stricter_threshold_never_keeps_more(pairs, a, b, c, d):
    strict = judge(pairs, min(a, b), min(c, d))["keep"].to_pylist()
    loose = judge(pairs, max(a, b), max(c, d))["keep"].to_pylist()
    assert all(kept_loosely or not kept for kept, kept_loosely in zip(strict, loose, strict=True))


def test_reasons():
    pairs = [(0.1, 0.1), (0.5, 0.1), (0.1, 0.9), (0.9, 0.9), (None, 0.1), (0.1, None), (float("nan"), 0.9)]
    reasons = judge(pairs, 0.5, 0.8)["reason"].to_pylist()
    assert reasons == ["kept", "identity", "near_copy", "identity+near_copy", "failed", "failed", "failed"]


def test_a_sample_twice_is_an_error():
    table = pa.concat_tables([matches([(0.1, 0.1)])] * 2)
    with pytest.raises(InputError, match="s0"):
        ThresholdPolicy(Policy(identity_threshold=0, near_copy_threshold=0, target_fpir=0.1, near_copy_fpir=0.1)).judge(
            table
        )


def test_policy_at_flags_the_target_share_of_strangers():
    rng = np.random.default_rng(0)
    pairs = list(
        zip(rng.uniform(-1, 1, 200).astype(np.float32), rng.uniform(-1, 1, 200).astype(np.float32), strict=True)
    )
    table = matches(pairs).append_column("query_patient_id", pa.array([f"p{i}" for i in range(200)]))
    policy = policy_at(table, 0.1, 0.02, 0.95)
    verdicts = ThresholdPolicy(policy).judge(table)
    reasons = np.array(verdicts["reason"].to_pylist())
    assert np.isin(reasons, ["identity", "identity+near_copy"]).sum() == 19  # and the next one: 20 of 201
    assert np.isin(reasons, ["near_copy", "identity+near_copy"]).sum() == 3
    assert Policy(**policy.model_dump()) == policy
    assert "support" in policy_at(table, 0.001, 0.02, 0.95).note


POLICY = Policy(identity_threshold=0.5, near_copy_threshold=0.8, target_fpir=0.05, near_copy_fpir=0.05)


class Margin:
    """Somebody's own policy: the thresholds, and a margin below that of identity."""

    def __init__(self, thresholds, margin):
        self.inner, self.least = ThresholdPolicy(thresholds), thresholds.identity_threshold - margin

    def judge(self, matches):
        rows = self.inner.judge(matches).to_pylist()
        for row in rows:
            if row["keep"] and row["score"] >= self.least:
                row |= {"keep": False, "reason": "margin"}
        return pa.Table.from_pylist(rows, schema=VERDICTS)


class KeepsAll:
    def __init__(self, thresholds, short=False, reason="kept"):
        self.short, self.reason = short, reason

    def judge(self, matches):
        n = matches.num_rows - self.short
        columns = {"sample_id": matches["query_id"][:n], "keep": [True] * n, "reason": [self.reason] * n}
        columns |= {name: matches[name][:n] for name in ("score", "structure_score")}
        return pa.table(columns, schema=VERDICTS)


def own(name, **options):
    return make_policy(FilterConfig(policy=Import(factory=f"{__name__}:{name}", options=options)), POLICY)


def test_somebodys_own_policy_judges_with_the_thresholds_and_its_options():
    table = matches([(0.1, 0.1), (0.45, 0.1), (0.9, 0.1), (None, None)])
    assert judged(own("Margin", margin=0.1), table)["reason"].to_pylist() == ["kept", "margin", "identity", "failed"]


@pytest.mark.parametrize(
    ("options", "pairs", "message"),
    [
        ({"short": True}, [(0.1, 0.1)] * 2, "one row"),
        ({"reason": "fine"}, [(0.1, 0.1)], "whose reason is `kept`"),
        ({}, [(0.1, 0.1), (None, None)], "failed"),
    ],
)
def test_an_answer_that_is_none_is_an_error(options, pairs, message):
    with pytest.raises(InputError, match=message):
        judged(own("KeepsAll", **options), matches(pairs))


def test_what_is_no_policy_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match="isn't a MatchPolicy"):
        make_policy(FilterConfig(policy=Import(factory="builtins:dict")), POLICY)
