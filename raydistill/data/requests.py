"""What is asked of a model: one row a sample, a function of the table of prompts, a seed and the row's number."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import REQUESTS
from raydistill.core.errors import InputError
from raydistill.core.generation import RequestConfig
from raydistill.core.seeds import derive_seed, generator
from raydistill.core.store import Store
from raydistill.data.prompts import FREQUENCIES
from raydistill.data.scrub import scrub
from raydistill.data.vocabulary import FINDINGS, SEXES, VIEWS, findings, plain_words

NO_LABEL = ("not said",)
"""Stands for the finding of a prompt that says nothing of findings; one that says there is none has an empty list."""


MOST = 10**9
"""Times that a table may ask for one prompt."""


class Requests:
    """A plan of any length: row i is the same whatever rows are asked for beside it.

    Args:
        frequencies: schema `FREQUENCIES`, rows in any order.
        config: how prompts are chosen.
        seed: of the choices and of the samples' own seeds.
        node: prefix of the sample ids.
        ways: guidance scale and steps that rows take turns in; none says nothing of them. With `per_prompt` each prompt
            meets all ways equally often, if it is a multiple of their number; else at most once more.
        is_shuffled: ask for prompts in an order drawn from the seed, where each has its turn.

    Raises:
        InputError: when there is no prompt to ask for.
    """

    def __init__(
        self,
        frequencies: pa.Table,
        config: RequestConfig,
        seed: int,
        node: str,
        *,
        ways: Sequence[tuple[float, int]] = (),
        is_shuffled: bool = False,
    ) -> None:
        self.ways = ways
        prompts = frequencies.sort_by("prompt")
        if is_shuffled:
            prompts = prompts.take(pa.array(generator(seed, "order").permutation(prompts.num_rows)))
        self.prompts, self.config, self.seed, self.node = prompts, config, seed, node
        counts = self.prompts["count"].to_numpy()
        if not len(counts) or counts.sum() <= 0:
            raise InputError(f"{node}: the table of prompts is empty, so nothing can be asked of a model")
        self.counts = np.asarray(counts, np.int64)
        self.round = int(self._each().sum())
        self.edges = np.cumsum(_weights(self.prompts["labels"].to_pylist(), counts.astype(float), config.balance))

    def total(self, num_samples: int) -> int:
        """How many rows the plan has: `num_samples`, or what `per_prompt` comes to."""
        return num_samples if self.config.per_prompt is None else self.config.per_prompt * self.round

    def rows(self, numbers: range) -> pa.Table:
        """Return the rows of these numbers: schema `columns.REQUESTS`."""
        rows = self.prompts.drop_columns(["count"]).take(pa.array(self._chosen(numbers), pa.int64()))
        ids = pa.array([f"{self.node}-{i:08d}" for i in numbers], pa.string())
        seeds = pa.array([derive_seed(self.seed, "sample", i) for i in numbers], pa.int64())
        turns = [self.ways[self._turn(i) % len(self.ways)] if self.ways else (None, None) for i in numbers]
        columns = {**{name: rows[name] for name in rows.column_names}, "sample_id": ids, "seed": seeds}
        columns["guidance_scale"] = pa.array([guidance for guidance, _ in turns], pa.float32())
        columns["num_inference_steps"] = pa.array([steps for _, steps in turns], pa.int32())
        return pa.table([columns[name] for name in REQUESTS.names], schema=REQUESTS)

    def _turn(self, number: int) -> int:
        """Whose turn it is in a row: where each prompt has so many, they begin one way further on in every round."""
        if self.config.per_prompt is None:
            return number
        # With the row's number alone, a prompt would meet some of the ways only wherever the two counts share a factor.
        turn, place = divmod(number, self.round)
        return turn + place

    def _each(self) -> NDArray[np.int64]:
        """How often each prompt is asked for in a round: as its table says, or once."""
        return self.counts if self.config.table else np.minimum(self.counts, 1)

    def _chosen(self, numbers: range) -> NDArray[np.int64]:
        if self.config.per_prompt is not None:
            edges = np.cumsum(self._each())
            return np.asarray(np.searchsorted(edges, np.asarray(numbers) % self.round, side="right"))
        shares = np.array([derive_seed(self.seed, "prompt", i) / 2**63 for i in numbers])
        # A share rounded up to 1.0 would fall off the end.
        chosen = np.searchsorted(self.edges, shares * self.edges[-1], side="right")
        return np.asarray(np.minimum(chosen, len(self.edges) - 1))


def _weights(labels: Sequence[Sequence[str] | None], counts: NDArray[np.float64], balance: str) -> NDArray[np.float64]:
    """Say how likely each prompt is to be asked for, but for a common factor."""
    if balance == "frequency":
        return counts
    if balance == "prompt":
        return np.minimum(counts, 1.0)
    # First a finding, each as likely as another, then a prompt that has it, by frequency.
    of = [NO_LABEL if names is None else tuple(names) or ("",) for names in labels]
    totals: dict[str, float] = {}
    for names, count in zip(of, counts, strict=True):
        for name in names:
            totals[name] = totals.get(name, 0.0) + count
    shares = [sum(count / totals[name] for name in names if count) for names, count in zip(of, counts, strict=True)]
    return np.array(shares)


def read_prompts(path: str) -> pa.Table:
    """Read somebody's own table of prompts.

    Args:
        path: CSV or Parquet with a column `prompt`, and optionally `count` (1 without it), `labels` (a list, or words
            with `;`, `|` or `,` between them; `no finding` for none), `view`, `sex`, `age_band` (such as `40 to 59`).

    Returns:
        Schema `FREQUENCIES`, in the vocabulary's words.

    Raises:
        InputError: when it can't be read, has no prompt, says one twice, asks for none, has a view, sex or age band
            that isn't known, or a prompt holds what looks like a date, a name or an identifier.
    """
    table = _read(path)
    if "prompt" not in table:
        raise InputError(f"{path} has no column `prompt`; there are {', '.join(map(str, table.columns))}")
    if unread := [str(name) for name in table.columns if name not in FREQUENCIES.names]:
        raise InputError(f"{path}: nobody reads its column {unread[0]!r}; known are {', '.join(FREQUENCIES.names)}")
    table["prompt"] = table["prompt"].fillna("").astype(str).str.strip()
    if not len(table) or (table["prompt"] == "").any():
        raise InputError(f"{path}: {'no prompt at all' if table.empty else 'a row without a prompt'}")
    if table["prompt"].duplicated().any():
        twice = table["prompt"][table["prompt"].duplicated()].iloc[0]
        raise InputError(f"{path}: {twice!r} is there twice; say so in a column `count`")
    for number, prompt in enumerate(table["prompt"], start=1):
        if removed := scrub(prompt)[1]:
            kind = next(iter(removed))
            raise InputError(
                f"{path}, row {number}: its prompt holds what looks like a {kind}, and prompts are released"
            )
    counts = _counts(table, path)
    if not sum(counts):
        raise InputError(f"{path}: every count is 0, so nothing is asked for")
    rows = [
        {"prompt": row["prompt"], "count": count, **_fields(row, f"{path}, row {number}")}
        for number, (row, count) in enumerate(zip(table.to_dict("records"), counts, strict=True), start=1)
    ]
    return pa.Table.from_pylist(rows, schema=FREQUENCIES)


def unknown_findings(frequencies: pa.Table) -> list[str]:
    """Return the findings of a table that the public vocabulary doesn't have, sorted; a cohort may have them."""
    named = {name for labels in frequencies["labels"].to_pylist() for name in labels or ()}
    return sorted(named - set(FINDINGS))


def digest(path: str) -> str:
    """Hash what is in a table of prompts: 64 hexadecimal digits."""
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: str) -> bytes:
    try:
        return Store.open(path).read_bytes("")
    except OSError as error:
        raise InputError(f"no file {path} that can be read ({type(error).__name__})") from None


def _read(path: str) -> pd.DataFrame:
    content = io.BytesIO(_content(path))
    try:
        return pd.read_parquet(content) if path.endswith(".parquet") else pd.read_csv(content, keep_default_na=False)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"the table of prompts {path} can't be read: {said}") from None


def _counts(table: pd.DataFrame, path: str) -> list[int]:
    if "count" not in table:
        return [1] * len(table)
    counts = pd.to_numeric(table["count"], errors="coerce").astype(float)
    bad = counts.isna() | (counts < 0) | (counts > MOST) | (counts % 1 != 0)
    if bad.any():
        raise InputError(
            f"{path}: count must be a whole number from 0 to {MOST:,}, not {table['count'][bad].iloc[0]!r}"
        )
    return [int(count) for count in counts]


def _fields(row: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Read what a row says of its images; what isn't said is None, and a word that isn't known an error."""
    said = {name: _word(row.get(name)) for name in ("view", "sex", "age_band")}
    for name, known in (("view", VIEWS), ("sex", SEXES)):
        word = said[name]
        if word and plain_words(word) not in known:
            raise InputError(
                f"{where}: {name} {word!r} isn't known; say one of {', '.join(sorted(set(known.values())))}"
            )
        said[name] = word and known[plain_words(word)]
    if (band := said["age_band"]) and not re.fullmatch(r"\d{1,3} to \d{1,3}", band):
        raise InputError(f"{where}: age_band {band!r} isn't one such as `40 to 59`")
    return said | {"labels": _labels(row.get("labels"))}


def _labels(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return findings(re.split(r"[;|,]", value)) if value.strip() else None
    return findings([str(word) for word in value]) if np.iterable(value) else None


def _word(value: Any) -> str | None:
    return None if value is None or value != value or str(value).strip() == "" else str(value).strip()
