"""What somebody else made, taken into a run as it is: images, a model, a re-identification network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.columns import SAMPLES
from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.kinds import IMAGE_ENDINGS
from raydistill.core.scratch import temporary_folder
from raydistill.core.section import Section
from raydistill.core.store import Store, readable
from raydistill.core.training import ReidConfig
from raydistill.data.images import BadImage, decode, encode_png, fit_square
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.diffusion.components import image_side
from raydistill.diffusion.folder import check_layout, find, load_pipeline, save
from raydistill.reid.embedder import OWN
from raydistill.reid.model import ReidNetwork, check_backbone, weights_digest
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.train_reid import own_eye

ROWS = 512
"""Images of a shard."""
SHOWN_FAILURES = 3


class GivenImagesConfig(Section):
    """Where images are, and what becomes of each."""

    images: str
    resolution: int
    max_pixels: int


class GivenImages(Stage):
    """No inputs. Output: `samples/part-*.parquet`, columns.SAMPLES; what can't be read keeps its row and a reason."""

    version: ClassVar[int] = 2
    config: GivenImagesConfig

    def check(self, config: Config) -> None:
        """Refuse a folder that holds no image."""
        next(_encoded(self.config.images))

    def key_config(self) -> dict[str, Any]:
        """Name the images by their content, not by where they lie."""
        return {**super().key_config(), "images": _digests(self.config.images)}

    def run(self, context: Context) -> Outcome:
        """Decode, cut and write, a shard at a time."""
        rows: list[dict[str, Any]] = []
        made, failures = 0, list[str]()
        for number, (name, content, prompt) in enumerate(_encoded(self.config.images)):
            rows.append({"sample_id": f"{number:08d}-{name}", "prompt": prompt, "seed": 0} | self._image(content))
            failures += [f"{name} ({rows[-1]['failure']})"] if rows[-1]["failure"] else []
            if len(rows) == ROWS:
                _write(context.out, made, rows)
                made, rows = made + ROWS, []
        if rows:
            _write(context.out, made, rows)
        first = ", ".join(failures[:SHOWN_FAILURES])
        notes = [f"{len(failures)} images can't be read, and aren't audited; the first: {first}"] if failures else []
        counts = {"rows": made + len(rows), "failed": len(failures)}
        return Outcome(counts=counts, facts={"prompts": "as they came", "notes": notes})

    def _image(self, content: bytes) -> dict[str, Any]:
        try:
            square = fit_square(decode(content, self.config.max_pixels), self.config.resolution)
        except BadImage as bad:
            return {"image": None, "failure": str(bad)}
        return {"image": encode_png(square), "failure": None}


def _write(out: Store, first: int, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.schema([(field.name, field.type) for field in SAMPLES]))
    out.write_table(f"samples/part-{first // ROWS:05d}.parquet", table.cast(SAMPLES))


def _encoded(folder: str) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content and prompt of every image.

    Raises:
        InputError: when there is none.
    """
    store = Store.open(folder)
    with readable(store.uri):
        names = store.files()
        tables = [name for name in names if name.endswith(".parquet")]
        pictures = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
        if not tables and not pictures:
            raise InputError(
                f"audited.images: {store.uri} holds no image file ({', '.join(IMAGE_ENDINGS)}) and no Parquet"
            )
        for name in tables:
            yield from _of_table(store, name)
        for name in [] if tables else pictures:
            yield name, store.read_bytes(name), BASE_PROMPT


def _of_table(store: Store, name: str) -> Iterator[tuple[str, bytes, str]]:
    with store.filesystem.open_input_file((store / name).path) as file:
        parquet = pq.ParquetFile(file)
        columns = [column for column in ("image", "prompt") if column in parquet.schema_arrow.names]
        if "image" not in columns:
            raise InputError(f"audited.images: {store.uri}/{name} has no column image")
        for batch in parquet.iter_batches(64, columns=columns):
            for row in batch.to_pylist():
                image = row["image"]
                content = image.get("bytes") if isinstance(image, dict) else image
                yield name, content or b"", row.get("prompt") or BASE_PROMPT


class GivenModelConfig(Section):
    """Which model."""

    model: str
    local_files_only: bool
    resolution: int


class GivenModel(Stage):
    """No inputs. Output: `model/`, a Stable Diffusion folder with safetensors."""

    version: ClassVar[int] = 1
    config: GivenModelConfig

    def check(self, config: Config) -> None:
        """Refuse a folder that isn't whole, and a model of images of another size than the cohort's."""
        folder = Store.open(str(self._folder))
        check_layout(self._folder)
        side = image_side(*(folder.read_json(f"{part}/config.json") for part in ("unet", "vae")))
        if side != self.config.resolution:
            raise ConfigError(
                f"audited.model makes images of {side} px, the cohort's are {self.config.resolution} px: set "
                f"ingest.resolution={side}"
            )

    @property
    def _folder(self) -> Path:
        return find(self.config.model, self.config.local_files_only)

    def key_config(self) -> dict[str, Any]:
        """Name the model by its content."""
        return {**super().key_config(), "model": _digests(str(self._folder))}

    def run(self, context: Context) -> Outcome:
        """Copy it, in the form that all models of a run have."""
        with temporary_folder() as folder:
            save(load_pipeline(self._folder), Path(folder))
            context.out.upload(folder, "model")
        return Outcome()


class GivenEyeConfig(Section):
    """Which network, in place of one that the cohort taught."""

    eye: ReidConfig
    network: str | None
    resolution: int


class GivenEye(Stage):
    """No inputs. Output: `network/` as of `TrainReid`: a trained one, somebody's own, or public weights as they are."""

    version: ClassVar[int] = 1
    config: GivenEyeConfig

    def check(self, config: Config) -> None:
        """Refuse a network that learned nothing, or of images of another size."""
        if self.config.network:
            side = ReidNetwork.load(Store.open(self.config.network).keep_local()).resolution
            if side != self.config.resolution:
                raise ConfigError(f"audited.network sees images of {side} px, not of {self.config.resolution} px")
        elif not self.config.eye.embedder:
            check_backbone(self.config.eye.backbone, self.config.resolution)
            if not self.config.eye.backbone.is_packaged and not self.config.eye.backbone.pretrained:
                raise ConfigError(
                    "eyes.auditor.backbone would start from nothing, and an audit trains nothing: name a trained "
                    "audited.network, a packaged or pretrained backbone, or an embedder of your own"
                )

    def key_config(self) -> dict[str, Any]:
        """Name the network by its content."""
        own = own_eye(self.config.eye, "auditor") if self.config.eye.embedder and not self.config.network else None
        given = _digests(self.config.network) if self.config.network else None
        return {"resolution": self.config.resolution, "given": given, "own": own} | (
            {} if given or own else {"seed": self.seed, "start": weights_digest(self.config.eye.backbone)}
        )

    def run(self, context: Context) -> Outcome:
        """Copy the network, or write what to import."""
        if self.config.network:
            context.out.upload(Store.open(self.config.network).keep_local(), "network")
        elif self.config.eye.embedder:
            context.out.write_json(f"network/{OWN}", own_eye(self.config.eye, "auditor"))
        else:
            with temporary_folder() as folder:
                ReidNetwork.build(self.config.eye, self.config.resolution, self.seed).save(folder)
                context.out.upload(folder, "network")
        return Outcome(facts={"backbone": self.config.eye.backbone.kind})


def _digests(folder: str) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in Store.open(folder).fingerprint()}
