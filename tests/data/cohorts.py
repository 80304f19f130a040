"""Small cohorts for the tests of the data layer."""

import numpy as np

from raydistill.data.images import encode_png


def png(number, side=12):
    """A picture of its own for every number."""
    return encode_png(np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8))


def table_rows(patients=12, several=6, **extra):
    """Rows of a good cohort: `several` patients have three images, the others one."""
    rows = []
    for patient in range(patients):
        for study in range(3 if patient < several else 1):
            number = len(rows)
            rows.append(
                {
                    "image": png(number),
                    "patient_id": f"p{patient:02d}",
                    "image_id": f"i{number:03d}",
                    "study_index": study,
                    "labels": ["Mass"] if number % 2 else [],
                    "view": "PA",
                    "sex": "F" if patient % 2 else "M",
                    "age": 30 + patient,
                    **extra,
                }
            )
    return rows
