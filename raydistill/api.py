"""raydistill from Python: run a configuration, or open a finished run, and look at what came of it.

Example:
    >>> import raydistill
    >>> result = raydistill.run("jobs/demo.yaml", "runs/demo")  # doctest: +SKIP
    >>> result.verdict, result.metrics()  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.core.config import Config
from raydistill.core.loading import load_config, overridden
from raydistill.core.store import Store
from raydistill.result import UNDECIDED, RunResult


def run(
    config: Config | str | Path | Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> RunResult:
    """Run the pipeline, or what of it isn't done yet, and return what it came to.

    Args:
        config: a file, the values of one, or a whole configuration; the defaults without one.
        run_dir: a path or URI; `runs/<name>` by default. The same folder again resumes.
        overrides: `section.key=value`, as `--set`.
        quiet: show no progress.

    Raises:
        RaydistillError: a mistake, in one line.
    """
    from raydistill.display import Display
    from raydistill.running import run as run_pipeline

    return run_pipeline(_resolved(config, overrides), None if run_dir is None else str(run_dir), Display(quiet))


def open_run(run_dir: str | Path) -> RunResult:
    """Return what a run folder came to so far.

    Args:
        run_dir: a path or URI.

    Raises:
        InputError: when that isn't a run folder, or a damaged one.
    """
    from raydistill.folder import read_summary

    summary = read_summary(str(run_dir))
    return RunResult(summary["verdict"] or UNDECIDED, summary["reasons"], Store.open(str(run_dir)).uri, summary)


def _resolved(config: Config | str | Path | Mapping[str, Any] | None, overrides: Sequence[str]) -> Config:
    if isinstance(config, Config):
        return overridden(config.model_dump(), overrides) if overrides else config
    return overridden(config, overrides) if isinstance(config, Mapping) else load_config(config, overrides)
