"""What workers read is what the driver would have read, whatever there is and however it is dealt out."""

import pickle

import numpy as np
import pytest

from raydistill.core.config import IngestConfig, PromptConfig
from raydistill.core.errors import RaydistillError
from raydistill.core.loading import validate
from raydistill.core.section import Compute
from raydistill.core.sources import DicomSource, PhantomSource
from raydistill.core.store import Store
from raydistill.data.rows import Square, Unusable
from raydistill.data.sources import open_source
from raydistill.data.sources.parts import Parted, numbered
from raydistill.data.squares import square_of
from raydistill.distributed.in_order import AHEAD, in_order
from raydistill.stages import reading
from raydistill.stages.base import Context
from raydistill.stages.ingest import Ingest, IngestNodeConfig
from raydistill.stages.reading import rows_of
from tests.data.archives import chexpert, mimic, nih, padchest
from tests.data.bad import IMAGES
from tests.data.dicoms import dicom

PHANTOM = PhantomSource(kind="phantom", num_patients=40, max_visits=3, resolution=16)
WORKERS = Compute(num_workers=2, num_cpus=1)
ARCHIVES = {"nih_cxr14": nih, "chexpert": chexpert, "mimic_cxr_jpg": mimic, "padchest": padchest}


def noise(seed):
    return np.random.default_rng(seed).integers(0, 4096, (16, 16)).astype(np.uint16)


def dicoms(folder):
    """Lay good files, files of several frames, and every kind of bad file."""
    files = {f"a/{i}.dcm": dicom(noise(i), PatientID=f"P{i // 2}") for i in range(24)}
    files |= {
        "b/two.dcm": dicom(np.stack([noise(30), noise(31)])),
        **{f"c/{n}": c for n, c in IMAGES.items()},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else b"")
    return DicomSource(kind="dicom", path=str(folder), frames="split", modalities=())


def made(source, folder, compute):
    config = IngestConfig(resolution=16, prompts=PromptConfig(k=2), max_bad_rows=10**6, compute=compute)
    stage = Ingest("ingest", IngestNodeConfig(source=source, ingest=config), {}, 0)
    out = Store.open(str(folder / "out"))
    context = Context(inputs={}, out=out, work=Store.open(str(folder / "work")), seed=stage.seed, private_key=b"k" * 32)
    outcome = stage.run(context)
    return stage, outcome, {name: out.read_bytes(name) for name in sorted(out.files())}


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["dicom", "phantom"])
def test_workers_make_the_same_files_as_the_driver(local_ray, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PARTS_AT_A_TIME", 5)
    source = PHANTOM if kind == "phantom" else dicoms(tmp_path / "archive")
    here, there = made(source, tmp_path / "here", None), made(source, tmp_path / "there", WORKERS)
    assert there[1] == here[1]
    assert there[2] == here[2]
    assert here[1].counts["records"] > 12
    assert (here[0].needs_ray, there[0].needs_ray) == (False, True)
    assert here[0].key_config() == there[0].key_config()


@pytest.mark.ray
def test_originals_stay_with_the_workers(local_ray, tmp_path):
    rows = list(rows_of(open_source(dicoms(tmp_path)), IngestConfig(resolution=8, compute=WORKERS)))
    assert any(isinstance(row.image, Square) for row in rows)
    assert all(row.image is None or isinstance(row.image, Square) for row in rows)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_parts_read_alone_and_elsewhere_are_the_rows(kind, tmp_path):
    config = validate({"source": {"kind": kind, "path": str(ARCHIVES[kind](tmp_path))}}).source
    source = open_source(config)
    assert isinstance(source, Parted)
    told = [pickle.dumps(part) for part in source.parts().parts]
    read = pickle.loads(pickle.dumps(source.parts().read))
    # Backwards, as no worker knows what another has read.
    found = [read(pickle.loads(part)) for part in reversed(told)]
    assert list(numbered(reversed(found))) == list(source.rows())


def test_a_square_is_made_once_and_says_elsewhere_why_there_is_none():
    made = Square(problem=Unusable("too_large", "5 pixels, the limit is 4"))
    again = pickle.loads(pickle.dumps(made))
    assert (again.problem.reason, again.problem.detail) == ("too_large", "5 pixels, the limit is 4")
    (row,) = numbered([[next(iter(open_source(PHANTOM).rows()))]])
    kept = reading.squared(lambda part: [part], IngestConfig(resolution=8), row)[0]
    assert square_of(kept, IngestConfig(resolution=32)) is kept.image


def late(batch):
    """Answer the later the earlier a batch is."""
    import time

    time.sleep(0.2 if 0 in batch else 0.0)
    return [item * item for item in batch]


@pytest.mark.ray
def test_answers_come_in_order_and_no_further_ahead_than_said(local_ray):
    told = []

    def items():
        for item in range(40):
            told.append(item)
            yield item

    answers = in_order(late, items(), WORKERS, at_a_time=3)
    assert next(answers) == 0
    assert len(told) <= 3 * (AHEAD * WORKERS.max_workers + 1)
    assert list(answers) == [item * item for item in range(1, 40)]
    assert list(in_order(late, [], WORKERS, at_a_time=3)) == []


@pytest.mark.ray
def test_what_fails_on_a_worker_is_said_in_a_line(local_ray):
    with pytest.raises(RaydistillError, match="a worker failed: ZeroDivisionError"):
        list(in_order(lambda batch: [1 // item for item in batch], [1, 0], WORKERS, at_a_time=1))
