"""From a section of the configuration to the reader of its archive."""

from raydistill.core.imports import build
from raydistill.core.sources import (
    ChexpertSource,
    CsvSource,
    CustomSource,
    DatasetsSource,
    DicomSource,
    ImageFolderSource,
    MimicSource,
    NihSource,
    PadchestSource,
    ParquetSource,
    PhantomSource,
    SourceConfig,
    WebDatasetSource,
)
from raydistill.data.sources.chexpert import ChexpertReader
from raydistill.data.sources.csv_table import CsvReader
from raydistill.data.sources.datasets_folder import DatasetsReader
from raydistill.data.sources.dicom_folder import DicomReader
from raydistill.data.sources.image_folder import ImageFolderReader
from raydistill.data.sources.mimic import MimicReader
from raydistill.data.sources.nih import NihReader
from raydistill.data.sources.padchest import PadchestReader
from raydistill.data.sources.parquet import ParquetReader
from raydistill.data.sources.phantom import PhantomReader
from raydistill.data.sources.protocol import Source
from raydistill.data.sources.webdataset_shards import WebDatasetReader


def open_source(config: SourceConfig) -> Source:
    """Return the reader of a cohort; nothing of the cohort is read yet.

    Raises:
        ConfigError: when a custom reader can't be imported or isn't one.
        InputError: when the address can't be read as one, or a reader needs a package that isn't installed.
    """
    match config:
        case ParquetSource():
            return ParquetReader(config.path)
        case ImageFolderSource():
            return ImageFolderReader(config.path)
        case DicomSource():
            return DicomReader(config)
        case CsvSource():
            return CsvReader(config)
        case NihSource():
            return NihReader(config.path)
        case ChexpertSource():
            return ChexpertReader(config)
        case MimicSource():
            return MimicReader(config)
        case PadchestSource():
            return PadchestReader(config)
        case DatasetsSource():
            return DatasetsReader(config)
        case WebDatasetSource():
            return WebDatasetReader(config)
        case PhantomSource():
            return PhantomReader(config)
        case CustomSource():
            return build(config, Source, "source")
