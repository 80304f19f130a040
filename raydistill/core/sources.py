"""Where a cohort comes from: a section of the configuration for every kind of archive, told apart by `kind`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from raydistill.core.section import Import, Section

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""The table that makes a folder of images a cohort."""

Column = Literal[
    "file_name", "image", "patient_id", "image_id", "study_index", "study_id",
    "text", "labels", "view", "sex", "age", "role",
]  # fmt: skip
Columns = Annotated[
    dict[Column, str],
    Field(description="What the source calls a column, by raydistill's name of it; others keep their name."),
]


class Archive(Section):
    """What lies somewhere in files.

    Nothing is written before `pseudonymise` has done its work: patients and images are called by keyed hashes.
    """

    kind: str
    path: str
    pseudonymise: bool = Field(False, description="Call patients and images by keyed hashes of their ids.")
    pseudonym_key: str | None = Field(
        None,
        description="File of 32 bytes or more that ids are hashed with, kept by whoever may find a patient again; "
        "without it the run's own secret, so that another run folder has other pseudonyms, and another split.",
    )

    @model_validator(mode="after")
    def _hashes(self) -> "Archive":
        if self.pseudonym_key and not self.pseudonymise:
            raise ValueError("pseudonym_key without pseudonymise: nothing would be hashed with it")
        return self


class DicomConfig(Section):
    """Which DICOM objects are images of the cohort."""

    modalities: tuple[str, ...] = Field(
        ("CR", "DX"), description="Of DICOM files; others are left out: reports, other machines. Empty takes all."
    )
    burned_in: Literal["quarantine", "require_no", "accept"] = Field(
        "quarantine",
        description="Of DICOM's Burned In Annotation: quarantine YES, require NO, or accept all; many files don't say.",
    )


class ParquetSource(Archive):
    """A Parquet file, a folder of them, or a URI of either."""

    kind: Literal["parquet"]


class ImageFolderSource(Archive):
    """A folder of image files with `metadata.csv`, `metadata.jsonl` or `metadata.parquet` (column `file_name`)."""

    kind: Literal["image_folder"]


class DicomSource(DicomConfig, Archive):
    """A folder of DICOM files, in any folders below it."""

    kind: Literal["dicom"]
    pseudonymise: Literal[True] = True
    frames: Literal["refuse", "split"] = Field(
        "refuse", description="Of an object with several: quarantine it, or make an image of each."
    )


class CsvSource(DicomConfig, Archive):
    """A table that names image files, DICOM among them; a path in it is relative to `images`."""

    kind: Literal["csv"]
    pseudonymise: bool = True
    columns: Columns = Field(default_factory=dict)
    images: str | None = Field(None, description="Folder: path or URI; the table's own without it.")
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8"


class NihSource(Archive):
    """NIH ChestX-ray14: `Data_Entry_2017*.csv`, and PNG files in `images_001/images` to `images_012/images`."""

    kind: Literal["nih_cxr14"]


class ChexpertSource(Archive):
    """CheXpert, full or small: `train.csv` and `valid.csv`, and the folders that they name."""

    kind: Literal["chexpert"]
    uncertain: Literal["negative", "positive", "unknown"] = Field(
        "negative",
        description="A finding that may be there: isn't, is, or makes the image one of which no findings are known.",
    )


class MimicSource(Archive):
    """MIMIC-CXR-JPG: `mimic-cxr-2.0.0-*.csv.gz` and `files/pNN/pNNNNNNNN/sNNNNNNNN/*.jpg`."""

    kind: Literal["mimic_cxr_jpg"]
    labeler: Literal["chexpert", "negbio"] = "chexpert"
    uncertain: Literal["negative", "positive", "unknown"] = Field("negative", description="As CheXpert's.")
    reports: str | None = Field(
        None, description="`mimic-cxr-reports.zip` or the folder it was unpacked to; no text without."
    )
    patients: str | None = Field(
        None, description="`patients.csv.gz` of MIMIC-IV, for sex and age; not part of MIMIC-CXR-JPG."
    )


class PadchestSource(Archive):
    """PadChest: `PADCHEST_chest_x_ray_images_labels_*.csv.gz`, and 16-bit PNG files in folders `0` to `54`."""

    kind: Literal["padchest"]
    folders: bool = Field(True, description="Images lie in folders by the column ImageDir; false: all in one.")


class DatasetsSource(Archive):
    """What `save_to_disk` of Hugging Face `datasets` wrote; of several splits one after the other."""

    kind: Literal["datasets"]
    columns: Columns = Field(default_factory=dict)


class WebDatasetSource(Archive):
    """WebDataset shards: one `.tar`, or every one below a folder; a sample is an image and a `.json` of its fields."""

    kind: Literal["webdataset"]
    columns: Columns = Field(default_factory=dict)


class PhantomSource(Section):
    """The embedded cohort: procedural chest-radiograph-like images whose truth is known."""

    kind: Literal["phantom"]
    num_patients: PositiveInt = 400
    max_visits: PositiveInt = Field(6, description="Visits a patient has: 1 to this many, few having many.")
    resolution: PositiveInt = Field(64, le=2048)
    seed: int = 0


class CustomSource(Import):
    """Somebody's own reader, a `raydistill.data.sources.Source`."""

    kind: Literal["custom"]


SourceConfig = Annotated[
    ParquetSource
    | ImageFolderSource
    | DicomSource
    | CsvSource
    | NihSource
    | ChexpertSource
    | MimicSource
    | PadchestSource
    | DatasetsSource
    | WebDatasetSource
    | PhantomSource
    | CustomSource,
    Field(discriminator="kind"),
]
