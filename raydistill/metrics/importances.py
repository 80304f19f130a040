"""Which setting of a search matters: its share of what the objective varies by, where settings explain that at all."""

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_predict

LEAST_DIFFERENCE = 1e-6
"""Objectives that differ by less are equal, and nothing explains why they aren't."""

FEWEST, FOLDS, TREES = 16, 8, 64
"""Trials without which nothing is said; parts that are foretold from the others, and trees of each forest."""


def explained(settings: pd.DataFrame, objective: pd.Series, seed: int) -> float:
    """Return how much of the variation of N trials' objective is foretold by their settings, 0 where nothing is.

    Trials are foretold by a forest that learned from the others, so that what trees fit of noise doesn't count.

    Args:
        settings: (N, S).
        objective: (N,).
        seed: of folds and trees.

    Source: cross-validated coefficient of determination, Stone 1974, JRSS B 36:111; forests, Breiman 2001.
    """
    if len(settings) < FEWEST or objective.max() - objective.min() < LEAST_DIFFERENCE:
        return 0.0
    forest = RandomForestRegressor(TREES, random_state=seed % 2**32)
    folds = KFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    found = cross_val_predict(forest, settings.to_numpy(float), objective.to_numpy(float), cv=folds)
    missed = float(np.square(objective - found).sum() / np.square(objective - objective.mean()).sum())
    return max(0.0, 1 - missed)


def importances(settings: pd.DataFrame, objective: pd.Series, logarithmic: set[str], seed: int) -> dict[str, float]:
    """Return how much of the objective's variation each setting explains, largest first; none if none does.

    Args:
        settings: the searched settings of N trials, a column each.
        objective: what they came to.
        logarithmic: settings that were drawn evenly on a logarithmic scale.
        seed: of the trees.

    Returns:
        Shares that add up to `explained`, and not to 1.

    Source: functional ANOVA, Hutter, Hoos and Leyton-Brown 2014 (ICML), as Optuna has it.
    """
    varied = [str(name) for name in settings if settings[name].nunique() > 1]
    total = explained(settings[varied], objective, seed) if varied else 0.0
    if not total:
        return {}
    ranges = {
        name: FloatDistribution(float(settings[name].min()), float(settings[name].max()), log=name in logarithmic)
        for name in varied
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for (_, row), value in zip(settings[varied].astype(float).iterrows(), objective, strict=True):
        study.add_trial(optuna.trial.create_trial(params=dict(row), distributions=ranges, value=float(value)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed % 2**32)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: total * float(share) for name, share in shares.items()}
