"""What the documents say can be done works as it stands there."""

import re
import sys
import types
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import yaml

from raydistill.core.columns import JUDGED
from raydistill.core.config import FilterConfig
from raydistill.core.errors import ConfigError
from raydistill.core.imports import build
from raydistill.core.loading import validate
from raydistill.core.section import Import
from raydistill.core.sources import SourceConfig
from raydistill.data.sources import Source, open_source
from raydistill.data.sources.parts import Parted
from raydistill.matching.policy import Policy, judged, make_policy
from raydistill.matching.search import checked
from raydistill.metrics.custom import build_metrics, measure
from raydistill.reid.embedder import OwnEmbedder

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/extending.md").read_text()
FOLDERS = (ROOT / "docs", ROOT / "cluster")
DOCUMENTS = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *(p for f in FOLDERS for p in f.rglob("*.md")))]
GREY = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
THRESHOLDS = Policy(identity_threshold=0.5, near_copy_threshold=0.5, target_fpir=0.1, near_copy_fpir=0.1)


@pytest.fixture(autouse=True)
def _mine(monkeypatch):
    module = types.ModuleType("mine")
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, vars(module))
    monkeypatch.setitem(sys.modules, "mine", module)


def test_the_four_extensions_are_what_they_say_they_are():
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    config = validate({key: value for block in blocks for key, value in block.items()})
    source = open_source(config.source)
    assert next(iter(source.rows())).patient_id == "p1"
    large = sys.modules["mine"].LargeArchive("/data")
    assert isinstance(large, Parted)
    assert [(row.row, row.patient_id) for row in large.rows()] == [(0, "p1"), (1, "p1"), (2, "p2")]
    eye = build(config.eyes.auditor.embedder, OwnEmbedder, "embedder", device="cpu")
    checked(eye.embed(GREY, 2), "embeddings")
    matches = pa.table({name: ["a", "b", "c"] if "id" in name else [0.1, 0.47, 0.9] for name in JUDGED})
    matches = matches.set_column(JUDGED.index("structure_score"), "structure_score", pa.array([0.0] * 3))
    reasons = judged(make_policy(config.filter, THRESHOLDS), matches)["reason"].to_pylist()
    assert reasons == ["kept", "margin", "identity"]
    assert set(measure(build_metrics(config.evaluate.metrics), GREY, GREY, GREY)) == {"own.contrast"}


def test_a_part_where_another_belongs_is_refused():
    with pytest.raises(ConfigError, match="doesn't take thresholds"):
        make_policy(FilterConfig(policy=Import(factory="mine:Contrast")), THRESHOLDS)


@pytest.mark.parametrize("path", sorted((ROOT / "docs/howto").glob("*.md")), ids=lambda path: path.stem)
def test_every_archive_has_a_page_whose_settings_are_settings(path):
    (block,) = re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
    config = validate(yaml.safe_load(block)).source
    assert config.kind == path.stem
    assert isinstance(open_source(config), Source)


def test_archives_without_a_page_are_explained_elsewhere():
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(SourceConfig)[0])}
    pages = {path.stem for path in (ROOT / "docs/howto").glob("*.md")}
    assert kinds - pages == {"parquet", "image_folder", "custom", "phantom"}
    table = (ROOT / "docs/data.md").read_text()
    assert all(f"`{kind}`" in table for kind in kinds - {"phantom"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_between_documents_hold(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / path).read_text()):
        assert "://" in target or (ROOT / path.parent / target).exists(), target
