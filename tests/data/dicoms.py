"""DICOM files for tests: drawn, or of pydicom's own, under other names."""

import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    generate_uid,
)

SHIPPED = Path(pydicom.__file__).parent / "data/test_files"
IDENTIFYING = {
    "PatientName": "Lovelace^Ada", "PatientBirthDate": "18151210", "OtherPatientIDs": "MRN-SECRET-1",
    "AccessionNumber": "ACC-SECRET-2", "ReferringPhysicianName": "Babbage^Charles", "InstitutionName": "St Secret",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.777", "PatientComments": "a jockey", "StudyDate": "18521127",
}  # fmt: skip
"""Attributes that must come out nowhere, and of what they hold nothing but an age."""

UNCOMPRESSED = {
    "explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}  # fmt: skip
ENCODED = {"jpeg2000": ("JPEG2000", JPEG2000Lossless), "jpeg": ("JPEG", JPEGBaseline8Bit)}


def written(dataset):
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def dicom(pixels, syntax="explicit", bits=None, **tags):
    """Encode stored values (H, W), (H, W, 3) or frames (N, H, W); what `tags` set to None isn't there."""
    meta = FileMetaDataset()
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    uid = generate_uid()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    meta.TransferSyntaxUID = UNCOMPRESSED.get(syntax, ExplicitVRLittleEndian)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = pixels.ndim == 3 and not colour
    dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = len(pixels)
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big" else "<")).tobytes()
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    given = {"PatientID": "p1", "Modality": "DX", "PatientSex": "F", "PatientAge": "057Y", "ViewPosition": "PA"} | tags
    for name, value in given.items():
        if value is not None:
            setattr(dataset, name, value)
    if syntax == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif syntax in ENCODED:
        kind, meta.TransferSyntaxUID = ENCODED[syntax]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **({"irreversible": False} if kind == "JPEG2000" else {}))
        dataset.PixelData = encapsulate([buffer.getvalue()])
        dataset["PixelData"].VR = "OB"
    return written(dataset)


def shipped(name, **tags):
    """Return one of pydicom's own test files as a patient's radiograph."""
    dataset = pydicom.dcmread(SHIPPED / name)
    for tag, value in ({"PatientID": "p1", "Modality": "DX", "PatientAge": "057Y"} | tags).items():
        setattr(dataset, tag, value)
    return written(dataset)


def pixels_of(name):
    return pydicom.dcmread(SHIPPED / name).pixel_array


def lookup(first, entries, bits):
    """Make a VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", list(entries))
    return pydicom.Sequence([item])


def ramp(top, dtype=np.uint16, size=16):
    """Draw stored values from 0 to `top`, rising from left to right."""
    return np.broadcast_to(np.linspace(0, top, size).round(), (size, size)).astype(dtype).copy()
