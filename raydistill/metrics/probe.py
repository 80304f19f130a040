"""The linear probe of findings that every trial of a search fits. No torch: a trial's process is there the sooner."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]

STRENGTH = 0.1
"""Inverse regularisation of the linear probe, fixed so that no set of images gets a better-tuned one."""


def label_matrix(labels: Sequence[Sequence[str]], findings: Sequence[str]) -> NDArray[np.float32]:
    """Return (N, F) zeros and ones: which of the F findings each of N images has; other labels are left out."""
    rows = [[finding in present for finding in findings] for present in map(set, labels)]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(findings))


class FindingsProbe:
    """A linear classifier of findings on features: cheap enough for every trial of a search.

    Source: linear evaluation of features, Alain and Bengio 2016 (arXiv 1610.01644).
    """

    def fit(self, features: Any, labels: Any) -> "FindingsProbe":
        """Learn from (N, D) features and (N, F) labels of 0 and 1; a finding all or none have gets a constant score."""
        self._scaler = StandardScaler()
        scaled = self._scaler.fit_transform(features)
        self._models = [
            LogisticRegression(C=STRENGTH, max_iter=500).fit(scaled, column)
            if 0 < column.sum() < len(column)
            else float(column.mean())
            for column in np.asarray(labels).T
        ]
        return self

    def predict(self, features: Any) -> Floats:
        """Return (N, F) probabilities for (N, D) features."""
        scaled = self._scaler.transform(features)
        columns = [
            np.full(len(features), model) if isinstance(model, float) else model.predict_proba(scaled)[:, 1]
            for model in self._models
        ]
        return np.stack(columns, axis=1)
