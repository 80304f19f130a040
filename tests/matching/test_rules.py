import numpy as np
import pyarrow as pa

from raydistill.matching.rules import simple_rules


def table(scores, structures, prefix):
    ids = [f"{prefix}{number}" for number in range(len(scores))]
    columns = {"score": np.float32(scores), "structure_score": np.float32(structures)}
    return pa.table({"query_id": ids, "query_patient_id": ids, **columns, "nearest_patient_id": ids})


def test_each_rule_keeps_what_it_says():
    rng = np.random.default_rng(0)
    strangers = table(np.linspace(0, 1, 1000), rng.permutation(np.linspace(0, 1, 1000)), "s")
    samples = table([0.1, 0.995, 0.1, 0.1, 0.1], [0.1, 0.1, 0.995, 0.96, 0.94], "m")
    chosen = np.array([True, False, True, False, False])
    kept = simple_rules(samples, strangers, chosen, 0.95, 0)
    assert kept["fixed_fpir"].tolist() == [True, False, False, True, True]
    assert kept["percentile_95"].tolist() == [True, True, False, False, True]
    assert kept["no_filter"].all()
    assert kept["random_drop"].sum() == 2
    assert (simple_rules(samples, strangers, chosen, 0.95, 0)["random_drop"] == kept["random_drop"]).all()
