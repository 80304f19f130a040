"""DICOM objects as grey pictures, and the few attributes of theirs that are used: nothing else is looked at.

Standard: NEMA PS3 / ISO 12052; attributes by their tags, pictures by its display pipeline (PS3.3, C.11): modality LUT
or rescale, VOI LUT or window, then the photometric interpretation.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raydistill.core.errors import InputError
from raydistill.core.quiet import mute
from raydistill.core.sources import DicomConfig
from raydistill.data.decoding import Undecodable, decode_apart
from raydistill.data.images import DECODER_ERRORS, DEFAULT_MAX_PIXELS
from raydistill.data.records import LEFT_OUT
from raydistill.data.rows import Unusable
from raydistill.data.vocabulary import SEXES, VIEWS, plain_words

EXTRA = "this needs pydicom and its decoders: pip install 'raydistill[dicom]'"
DAYS_OF_A_YEAR = 365.25
MODALITIES = {
    "CR", "CT", "DX", "ES", "IO", "KO", "MG", "MR", "NM", "OT",
    "PR", "PT", "PX", "RF", "RG", "SEG", "SR", "US", "XA", "XC",
}  # fmt: skip
"""Those that are told by name; another word could be anything. Source: PS3.3, C.7.3.1.1.1."""

MOST_LEVELS = 2**16
"""Radiographs have 16 bits at most; others are sorted first."""

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Instance:
    """What is used of a DICOM object.

    Args:
        frames: (H, W) uint8 each.
        patient_id: Patient ID (0010,0020), as it is.
        image_id: SOP Instance UID (0008,0018), as it is.
        fields: `view`, `sex`, `age`, of raydistill's words, and `study_id`, Study Instance UID (0020,000D), as it is;
            None where the object has none of these.
    """

    frames: list[Grey]
    patient_id: str | None
    image_id: str | None
    fields: dict[str, str | None]


def require_pydicom() -> None:
    """Make sure that DICOM can be read here.

    Raises:
        InputError: naming the extra to install.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(f"{EXTRA} ({error})") from None


def read_instance(content: bytes, config: DicomConfig, *, split: bool = False) -> Instance:
    """Read one DICOM file.

    Args:
        content: the file's bytes.
        config: which objects are images of the cohort.
        split: take one with several frames, too.

    Raises:
        Unusable: when it isn't one, is broken, isn't wanted, or nothing can be seen in it; no attribute that
            identifies somebody is in the message.
    """
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    # It would say what it finds odd, and whose it is.
    mute("pydicom")
    broken = (*DECODER_ERRORS, BytesLengthException)
    try:
        dataset = dcmread(io.BytesIO(content))
        _refuse_unwanted(dataset, config)
        _refuse_unreadable(dataset, split)
        fields = {"view": _word(dataset, "ViewPosition", VIEWS), "sex": _word(dataset, "PatientSex", SEXES)}
        patient, image = (_id(dataset, name) for name in ("PatientID", "SOPInstanceUID"))
        fields |= {"age": _age(dataset), "study_id": _id(dataset, "StudyInstanceUID")}
    except InvalidDicomError as error:
        raise Unusable("undecodable", "not_dicom: no DICOM file") from error
    except broken as error:
        raise Unusable("undecodable", f"broken: {type(error).__name__} in its attributes") from error
    try:
        return Instance(_frames(dataset, content), patient, image, fields)
    except (*broken, Undecodable) as error:
        said = " ".join(str(error).split())[:300]
        raise Unusable("undecodable", f"broken: {type(error).__name__}: {said}") from error


def _refuse_unwanted(dataset: Any, config: DicomConfig) -> None:
    modality = str(dataset.get("Modality", "")).strip()
    if config.modalities and modality not in config.modalities:
        named = modality if modality in MODALITIES else "another" if modality else "not said"
        raise Unusable(LEFT_OUT, f"modality {named}; source.modalities says which are taken")
    burned = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
    if config.burned_in != "accept" and burned == "YES":
        raise Unusable("burned_in", "Burned In Annotation is YES: a name may be in the picture itself")
    if config.burned_in == "require_no" and burned != "NO":
        raise Unusable("burned_in", "Burned In Annotation isn't NO, which source.burned_in=require_no asks for")


def _refuse_unreadable(dataset: Any, split: bool) -> None:
    if "PixelData" not in dataset:
        raise Unusable("missing_image", "an object without pixel data")
    frames, pixels = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows) * int(dataset.Columns)
    if frames != 1 and not split:
        raise Unusable("undecodable", f"several_frames: {frames} frames; frames=split of a folder takes each")
    if frames * pixels > DEFAULT_MAX_PIXELS:
        raise Unusable("too_large", f"{frames} frames of {pixels} pixels, the limit is {DEFAULT_MAX_PIXELS}")


def _frames(dataset: Any, content: bytes) -> list[Grey]:
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        pixels = pixel_array(dataset, decoding_plugin="pydicom")
    else:
        pixels = decode_apart(content) if syntax.is_compressed else pixel_array(dataset)
    several = int(dataset.get("NumberOfFrames") or 1) > 1
    return [_grey(frame, dataset) for frame in (pixels if several else [pixels])]


def _grey(pixels: NDArray[Any], dataset: Any) -> Grey:
    """Show one frame: (H, W) or (H, W, 3) stored values to (H, W) uint8."""
    from pydicom.pixels.processing import apply_color_lut

    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim == 3:
        top = 2 ** (8 * pixels.dtype.itemsize) - 1
        colour = np.rint(pixels.astype(np.float64) * (255 / top)).astype(np.uint8)
        return np.asarray(Image.fromarray(colour).convert("L"))
    outside = _padding(pixels, dataset)
    levels, place = _levels(pixels if outside.all() else pixels[~outside], pixels)
    values, low, high = _displayed(levels, dataset)
    share = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        share = 1.0 - share
    return np.where(outside, np.uint8(0), np.rint(share * 255).astype(np.uint8)[place])


def _levels(seen: NDArray[Any], pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the stored values that are shown, ascending, and which of them each pixel has, padding any.

    What a pixel is shown as depends on its stored value alone: it is worked out once for each of them.
    """
    first, last = int(seen.min()), int(seen.max())
    within = np.clip(pixels, first, last)
    if last - first >= MOST_LEVELS:
        return np.unique(within, return_inverse=True)
    return np.arange(first, last + 1), within.astype(np.int32) - np.int32(first)


def _displayed(levels: NDArray[Any], dataset: Any) -> tuple[NDArray[Any], float, float]:
    """Return what is displayed, and from where to where: the VOI LUT, else the window, else all that is there."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(levels, dataset)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(np.rint(values).astype(np.int64), dataset), 0.0, 2.0**bits - 1
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        low, high = apply_windowing(np.array([-np.inf, np.inf]), dataset)
        return apply_windowing(values, dataset), float(low), float(high)
    return values, float(values.min()), float(values.max())


def _padding(pixels: NDArray[Any], dataset: Any) -> NDArray[np.bool_]:
    """Mark what was never exposed. Source: PS3.3, C.7.5.1.1.2, Pixel Padding Value and Range Limit."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(pixels.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((pixels >= low) & (pixels <= high))


def _id(dataset: Any, name: str) -> str | None:
    return str(dataset.get(name) or "").strip() or None


def _word(dataset: Any, name: str, words: dict[str, str]) -> str | None:
    """Read a coded value; anything else that stands there could be anything."""
    return words.get(plain_words(str(dataset.get(name) or "")))


def _age(dataset: Any) -> str | None:
    """Read Patient's Age; without it, reckon it at the study's date from that of birth."""
    if said := str(dataset.get("PatientAge") or "").strip():
        return said
    dates = [str(dataset.get(name) or "").strip() for name in ("PatientBirthDate", "StudyDate")]
    if not all(len(date) == 8 and date.isdecimal() for date in dates):
        return None
    try:
        born, taken = (np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}") for date in dates)
    except ValueError:
        # Such as 19350000, where only the year is known.
        return None
    return str(int((taken - born).astype(int) / DAYS_OF_A_YEAR))
