"""Judging the very people whom the thresholds were set on, by thresholds that others set."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.core.config import FilterConfig
from raydistill.matching.policy import Policy, judged, make_policy, policy_at

FOLDS = 10
"""Parts of the calibration patients, each judged by thresholds that the other parts set."""


class CrossFit:
    """The policy, for people whom its thresholds were set on: in tenths of them, set anew on the other nine.

    Whom a threshold was set on is flagged as often as was asked for; what it does to others is what counts. Fewer
    folds would leave so few people that the rates asked for can't be supported, and flag more than the policy does.

    Args:
        config: what judges.
        thresholds: the policy whose FPIRs are aimed at.
        calibration: columns.MATCHES of the people thresholds are set on.
        confidence: of the calibration.

    Source: cross-fitting, Chernozhukov et al. 2018, The Econometrics Journal 21:C1; ten folds, Kohavi, IJCAI 1995.
    """

    def __init__(self, config: FilterConfig, thresholds: Policy, calibration: pa.Table, confidence: float) -> None:
        people = sorted(set(calibration["query_patient_id"].to_pylist()))
        self.folds = [people[fold::FOLDS] for fold in range(min(FOLDS, len(people)))]
        self.policies = []
        for mine in self.folds:
            others = calibration.filter(
                pc.invert(pc.is_in(calibration["query_patient_id"], pa.array(mine, pa.string())))
            )
            # A single person has nobody else.
            fitted = policy_at(
                others if len(others) else calibration, thresholds.target_fpir, thresholds.near_copy_fpir, confidence
            )
            self.policies.append(make_policy(config, fitted))

    def judged(self, matches: pa.Table, column: str) -> pa.Table:
        """Judge images, each by the policy that was set on other people.

        Args:
            matches: columns.JUDGED, among others.
            column: whose image each is.

        Returns:
            columns.VERDICTS, one row a row, in the same order.
        """
        places, tables = [], []
        for mine, policy in zip(self.folds, self.policies, strict=True):
            rows = pc.is_in(matches[column], pa.array(mine, pa.string()))
            places.append(np.flatnonzero(rows.to_numpy()))
            tables.append(judged(policy, matches.filter(rows)))
        return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places), kind="stable")))
