"""Which images make up a batch: patients in turn, whatever number of images they have."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raydistill.core.errors import InputError
from raydistill.core.seeds import generator


class PatientBatches:
    """Which images make up the batch of a step; a function of (seed, step) alone.

    Patients come in random order, each as often as any other however many images he has; a patient's images in a
    batch are a random choice, and one with too few gives the same image again, which the augmentation makes another.

    Args:
        patient_ids: N ids, one an image.
        patients: patients in a batch.
        images_per_patient: images of each.
        seed: where the order and the choices come from.

    Raises:
        InputError: when there are fewer than two patients.
    """

    def __init__(
        self, patient_ids: Sequence[str] | npt.NDArray[np.str_], patients: int, images_per_patient: int, seed: int
    ) -> None:
        _, self.labels = np.unique(np.asarray(patient_ids), return_inverse=True)
        self.images = [np.flatnonzero(self.labels == label) for label in range(self.labels.max(initial=-1) + 1)]
        if len(self.images) < 2:
            raise InputError(f"re-identification needs at least two train patients, got {len(self.images)}")
        self.patients, self.images_per_patient, self.seed = patients, images_per_patient, seed

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Return the image rows of a step's batch, (patients * images_per_patient,), a patient's side by side."""
        rng = generator(self.seed, "images", step)
        return np.concatenate([self._choose(self.images[patient], rng) for patient in self._patients(step)])

    def _patients(self, step: int) -> npt.NDArray[np.int64]:
        positions = np.arange(step * self.patients, (step + 1) * self.patients)
        epochs, places = np.divmod(positions, len(self.images))
        orders = {
            epoch: generator(self.seed, "patients", int(epoch)).permutation(len(self.images)) for epoch in set(epochs)
        }
        return np.array([orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)])

    def _choose(self, images: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return np.resize(rng.permutation(images), self.images_per_patient)
