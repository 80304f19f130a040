"""Phantoms beside the real images of a batch, so that few patients don't make a network forget what many taught it."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from raydistill.core.seeds import derive_seed
from raydistill.data.phantom import render
from raydistill.reid.augmentation import Views
from raydistill.reid.batches import PatientBatches
from raydistill.reid.model import PUBLIC_SIDE

PATIENTS, VISITS = 2000, 4

FIRST_LABEL = 2**40
"""Labels of phantoms begin where no patient's does."""


def phantoms(patients: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.str_]]:
    """Draw `VISITS` visits of each of so many phantoms, at the packaged weights' side: images, and whose they are."""
    people, visits = np.repeat(np.arange(patients), VISITS), np.tile(np.arange(VISITS), patients)
    return render(people, visits, seed=seed, resolution=PUBLIC_SIDE).images, people.astype(str)


class Rehearsal:
    """Random views of phantoms, a function of (seed, step).

    Args:
        patients: phantoms in a batch.
        images_per_patient: visits of each.
        seed: of the phantoms, the choices and the views.

    Source: keeping old examples in the batches of a new task, Robins, Catastrophic Forgetting, Rehearsal and
    Pseudorehearsal, Connection Science 7:123, 1995.
    """

    def __init__(self, patients: int, images_per_patient: int, seed: int) -> None:
        self.patients, self.size, self.seed = patients, images_per_patient, derive_seed(seed, "rehearsal")
        self.images, people = phantoms(PATIENTS, self.seed)
        self.batches = PatientBatches(people, patients, images_per_patient, self.seed)

    def views(self, step: int, share: slice, side: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what goes with a part of a step's real batch.

        Args:
            step: which batch.
            share: where the part begins and ends, in [0, 1] of the batch.
            side: of the real images, in pixels.
            device: where to compute.

        Returns:
            (M, side, side) float32 in [0, 1], and labels (M,) int64 that no real image has.
        """
        part = slice(*(self.size * int(self.patients * place + 1e-9) for place in (share.start, share.stop)))
        rows = self.batches.rows(step)
        views = Views.draw(len(rows), PUBLIC_SIDE, derive_seed(self.seed, "views", step)).part(part, device)
        pictures = views.apply(torch.from_numpy(self.images[rows[part]]).to(device))
        if side != PUBLIC_SIDE:
            pictures = F.interpolate(pictures[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
        return pictures, torch.from_numpy(FIRST_LABEL + self.batches.labels[rows[part]]).to(device)
