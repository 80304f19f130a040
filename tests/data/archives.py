"""Public archives in small, exactly as their downloads lie on disk."""

import csv
import gzip
import io
import zipfile

import numpy as np
from PIL import Image

from raydistill.data.sources.chexpert import FINDINGS

from .cohorts import png

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
CHEXPERT_HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(FINDINGS)
MIMIC_METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
MIMIC_FINDINGS = tuple(sorted(FINDINGS))
"""The same findings as CheXpert's; its table has them by the alphabet."""

PADCHEST_COLUMNS = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM",
    "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old with cough.

 FINDINGS: The heart is enlarged.

 IMPRESSION:

 Mild cardiomegaly.  No
 pleural effusion.
"""


def jpeg(number, side=12):
    pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png16(number, side=12):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 65536, (side, side), dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def table(rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def nih(folder, rows=None, name="Data_Entry_2017.csv"):
    """Rows: Image Index, Finding Labels, Follow-up #, Patient ID, Patient Age, Patient Gender, View Position."""
    rows = rows or [
        ("00000001_000.png", "Cardiomegaly|Emphysema", 0, 1, 57, "M", "PA"),
        ("00000001_001.png", "No Finding", 1, 1, 58, "M", "AP"),
        ("00000002_000.png", "Pleural_Thickening", 0, 2, 80, "F", "PA"),
    ]
    lines = [",".join(map(str, [*row, 2682, 2749, 0.143, 0.143, ""])) for row in rows]
    put(folder / name, "\n".join([NIH_HEADER, *lines]).encode())
    for number, row in enumerate(rows):
        put(folder / f"images_{1 + number % 12:03d}/images/{row[0]}", png(number))
    return folder


def chexpert(folder, rows=None):
    """Rows: path below the folder, sex, age, view, AP or PA, marks by finding."""
    rows = rows or [
        ("train/patient00001/study1/view1_frontal.jpg", "Female", 68, "Frontal", "AP", {"No Finding": "1.0"}),
        (
            "train/patient00002/study2/view1_frontal.jpg",
            "Male",
            87,
            "Frontal",
            "PA",
            {"Edema": "-1.0", "Fracture": "1.0"},
        ),
        ("train/patient00002/study1/view2_lateral.jpg", "Male", 83, "Lateral", "", {"Edema": "0.0"}),
        ("valid/patient64541/study1/view1_frontal.jpg", "Unknown", 5, "Frontal", "AP", {}),
    ]
    for name in ("train", "valid"):
        own = [row for row in rows if row[0].startswith(name)]
        cells = [["CheXpert-v1.0-small/" + p, *mid, *(marks.get(f, "") for f in FINDINGS)] for p, *mid, marks in own]
        put(folder / f"{name}.csv", table([CHEXPERT_HEADER.split(","), *cells]))
    for number, row in enumerate(rows):
        put(folder / row[0], jpeg(number))
    return folder


def mimic(folder, rows=None, marks=None):
    """Rows: dicom_id, subject_id, study_id, ViewPosition, StudyDate; marks by study."""
    rows = rows or [
        ("aaaa-1", 10000032, 50414267, "PA", 21800506),
        ("aaaa-2", 10000032, 50414267, "LATERAL", 21800506),
        ("bbbb-1", 10000764, 57375967, "AP", 21321015),
    ]
    marks = (
        marks
        if marks is not None
        else {50414267: {"No Finding": "1.0"}, 57375967: {"Edema": "-1.0", "Pneumonia": "1.0"}}
    )
    lines = [
        [d, s, t, "CHEST (PA AND LAT)", view, 3056, 2544, date, "213014.531", "", "", ""]
        for d, s, t, view, date in rows
    ]
    metadata = table([MIMIC_METADATA.split(","), *lines])
    subjects = {study: subject for _, subject, study, *_ in rows}
    found = [[subjects.get(study, 1), study, *(own.get(f, "") for f in MIMIC_FINDINGS)] for study, own in marks.items()]
    labels = table([["subject_id", "study_id", *MIMIC_FINDINGS], *found])
    put(folder / "mimic-cxr-2.0.0-metadata.csv.gz", gzip.compress(metadata))
    put(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", gzip.compress(labels))
    put(folder / "mimic-cxr-2.0.0-split.csv.gz", gzip.compress(b"dicom_id,study_id,subject_id,split\n"))
    for number, (dicom_id, subject, study, *_) in enumerate(rows):
        put(folder / f"files/p{str(subject)[:2]}/p{subject}/s{study}/{dicom_id}.jpg", jpeg(number))
    return folder


def mimic_reports(path, reports=None, as_zip=True):
    reports = reports or {
        "files/p10/p10000032/s50414267.txt": REPORT,
        "files/p10/p10000764/s57375967.txt": "no heading",
    }
    if not as_zip:
        for name, text in reports.items():
            put(path / name, text.encode())
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in reports.items():
            archive.writestr(name, text)
    return path


def padchest(folder, rows=None, flat=False):
    """Rows by column; what isn't named is empty."""
    common = {
        "StudyDate_DICOM": "20140915",
        "StudyID": "2053668664013634",
        "PatientBirth": "1930.0",
        "PatientSex_DICOM": "M",
        "ImageDir": "0",
    }
    rows = rows or [
        {"ImageID": "111_00-163-058.png", "PatientID": "839860488694292331637988235681460987", "Projection": "PA",
         "Labels": "['pulmonary fibrosis', ' chronic changes', 'pulmonary fibrosis']", "Report": "sin hallazgo patolog"},
        {"ImageID": "112_00-163-059.png", "PatientID": "839860488694292331637988235681460987", "Projection": "L",
         "Labels": "['normal']", "ImageDir": "14"},
        {"ImageID": "113_00-163-060.png", "PatientID": "313572750430997347502932654319389875966",
         "Projection": "AP_horizontal", "Labels": "nan", "PatientSex_DICOM": "F"},
    ]  # fmt: skip
    rows = [common | row for row in rows]
    cells = [[number, *(row.get(name, "") for name in PADCHEST_COLUMNS[1:])] for number, row in enumerate(rows)]
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    put(folder / name, gzip.compress(table([PADCHEST_COLUMNS, *cells])))
    for number, row in enumerate(rows):
        put(folder / ("" if flat else row["ImageDir"]) / row["ImageID"], png16(number))
    return folder
