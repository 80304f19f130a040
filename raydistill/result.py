"""What a run came to, for whoever goes on with it in Python."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydistill.core.errors import InputError
from raydistill.core.store import Store, readable

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

UNDECIDED = "not yet"


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        verdict: `pass`, `fail` or `insufficient_evidence`; `not yet` where it wasn't reached.
        reasons: why, a sentence each.
        run_uri: the run folder.
        summary: the content of its summary.json.
    """

    verdict: str
    reasons: list[str]
    run_uri: str
    summary: dict[str, Any]

    def metrics(self) -> "pd.DataFrame":
        """Return every metric, a row each: `of` whom (images, filter, search), `metric`, `value`, `low`, `high`.

        Also `control`, `baseline`, `n`, `unit` and `note`. NaN in the place of a value is
        insufficient evidence, and `note` says why.
        """
        import pandas as pd

        rows = []
        for of, found in self.summary["metrics"].items():
            for metric, one in found.items():
                low, high = one["interval"] or (None, None)
                rest = {name: one[name] for name in ("control", "baseline", "n", "unit", "note")}
                rows.append({"of": of, "metric": metric, "value": one["value"], "low": low, "high": high} | rest)
        numbers = dict.fromkeys(("value", "low", "high", "control", "baseline"), float)
        return pd.DataFrame(rows).astype(numbers)

    def table(self, node: str, name: str = "", columns: list[str] | None = None) -> pa.Table:
        """Read a table that a node made (docs/artifacts.md).

        Args:
            node: of the pipeline, such as `student_samples`.
            name: of a Parquet file of it, or of a folder of such files.
            columns: only these.

        Raises:
            InputError: when the node made nothing, or there is no such table or column.
        """
        made = self.summary["nodes"].get(node)
        if made is None or made["uri"] is None:
            raise InputError(f"{self.run_uri} has nothing of {node}; there are {', '.join(self.summary['nodes'])}")
        place = Store.open(self.run_uri) / node / made["key"]
        try:
            return place.read_table(name, columns)
        except FileNotFoundError:
            found = sorted({file.rpartition("/")[0] or file for file in place.files() if file.endswith(".parquet")})
            raise InputError(f"{place.uri} has no table {name!r}; it has {', '.join(found)}") from None
        except pa.ArrowInvalid as error:
            with readable((place / name).uri):
                known = place.column_names(name if name.endswith(".parquet") else f"{name}/{place.shards(name)[0]}")
            unknown = [column for column in columns or () if column not in known]
            said = f"no column {', '.join(unknown)}; the columns are {', '.join(known)}" if unknown else str(error)
            raise InputError(f"{(place / name).uri}: {said}") from None

    def pictures(self, node: str, most: int = 16) -> "list[Image.Image]":
        """Return the first pictures of a node that samples; those that failed are left out.

        Args:
            node: `teacher_samples`, `student_samples` or `student_attack`.
            most: of them.
        """
        from PIL import Image

        encoded = self.table(node, "samples", ["image"])["image"].drop_null().slice(0, most)
        return [Image.open(io.BytesIO(one.as_py())) for one in encoded]
