"""CheXpert as it lies after unpacking. Source: Irvin et al., arXiv 1901.07031."""

import re
from collections.abc import Mapping
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.sources import ChexpertSource
from raydistill.data.rows import Unusable
from raydistill.data.sources.archive import TableArchive, labelled
from raydistill.data.sources.files import names_in

FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
"""In the order of the tables; MIMIC-CXR-JPG has the same."""

TABLES = ("train.csv", "valid.csv")
PLACE = re.compile(r"[^/]+/(?P<id>(?:train|valid)/(?P<patient>patient\d+)/study(?P<study>\d+)/[^/]+)")
"""A path as the tables have it; it begins with the name of the download's folder, which may be called otherwise."""

FRONTAL = "Frontal"


class ChexpertReader(TableArchive):
    """`train.csv` and `valid.csv`, the one after the other; who is whose says the path of an image."""

    kind = "chexpert"
    needed = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)

    def __init__(self, config: ChexpertSource) -> None:
        """Take the address and the policy for uncertain findings; nothing is read."""
        super().__init__(config.path)
        self.uncertain = config.uncertain

    def tables(self) -> list[str]:
        """Return those of the two tables that are there."""
        found = [name for name in TABLES if name in names_in(self.store)]
        if not found:
            raise InputError(f"{self.store.uri}: neither train.csv nor valid.csv in this folder, as CheXpert has them")
        return found

    def describe(self, values: Mapping[str, str]) -> dict[str, Any]:
        """A frontal view is AP or PA; a lateral one is just that."""
        place = PLACE.fullmatch(values["Path"])
        if not place:
            raise Unusable("bad_field", f"Path {values['Path'][:100]!r} isn't such as CheXpert/train/patient1/study1/…")
        view = values["AP/PA"] or FRONTAL if values["Frontal/Lateral"] == FRONTAL else values["Frontal/Lateral"]
        return {
            "file_name": place["id"],
            "image_id": place["id"],
            "patient_id": place["patient"],
            "study_index": place["study"],
            "labels": labelled(values, FINDINGS, self.uncertain),
            "view": view,
            "sex": values["Sex"],
            "age": values["Age"],
        }
