"""What a re-identification network learns: images of one patient together, other patients apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_pairs_indices
from torch import nn

from raydistill.core.errors import ConfigError
from raydistill.core.seeds import derive_seed
from raydistill.core.training import ReidConfig
from raydistill.reid.augmentation import Views
from raydistill.reid.batches import PatientBatches
from raydistill.reid.model import ReidNetwork
from raydistill.reid.rehearsal import Rehearsal


class ReidLoss(nn.Module):
    """A network together with the loss of its embeddings, so that a training engine wraps both.

    All pairs of a patient's images count, and of the pairs with strangers the hard ones: where an image is more similar
    (cosine) to a stranger than to the least similar image of its own patient, less 0.1.

    Args:
        network: what is exported.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, CVPR 2019: mining,
    then weighting; the margin of 0.1 is that of the authors' code (MalongTech/research-ms-loss). They mine a patient's
    own pairs too, which recognised no more people here.
    """

    def __init__(self, network: ReidNetwork) -> None:
        super().__init__()
        self.network = network
        self.criterion = MultiSimilarityLoss(alpha=2.0, beta=50.0, base=0.5)
        self.miner = MultiSimilarityMiner(epsilon=0.1)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of images (N, R, R) whose patients are `labels` (N,), a scalar."""
        return self.compare(self.network(images), labels)

    def compare(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of embeddings (N, D) whose patients are `labels` (N,), a scalar."""
        own, strangers = get_all_pairs_indices(labels)[:2], self.miner(embeddings, labels)[2:]
        loss: torch.Tensor = self.criterion(embeddings, labels, (*own, *strangers))
        return loss


def check_whole_patients(images: int, images_per_patient: int, name: str) -> None:
    """Refuse a number of images that doesn't hold two or more whole patients.

    Args:
        images: of a batch, or of a worker's share of it.
        images_per_patient: of one patient in it.
        name: what the number is, for the message.

    Raises:
        ConfigError: when pairs of different patients can't be formed, or a patient would be cut in two.
    """
    if images % images_per_patient or images < 2 * images_per_patient:
        raise ConfigError(f"{name} {images} isn't a multiple, from 2 on, of images_per_patient {images_per_patient}")


class ReidObjective:
    """Metric learning on patient-balanced batches of augmented images. An `Objective` of the training loop.

    Args:
        images: (N, R, R) uint8.
        patient_ids: N ids.
        config: backbone, batch and seed.
        seed: the node's seed; with `config.seed` it decides weights, batches and augmentations.

    Raises:
        ConfigError: when the batch doesn't divide by the images of a patient.
        InputError: when there are fewer than two patients.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        patient_ids: Sequence[str] | npt.NDArray[np.str_],
        config: ReidConfig,
        seed: int,
    ) -> None:
        check_whole_patients(config.optimizer.batch_size, config.images_per_patient, "batch_size")
        self.images, self.config = images, config
        self.seed = derive_seed(seed, "reid", config.seed)
        patients = config.optimizer.batch_size // config.images_per_patient
        self.batches = PatientBatches(patient_ids, patients, config.images_per_patient, self.seed)
        phantoms = int(config.rehearsed * patients)
        self.rehearsal = Rehearsal(phantoms, config.images_per_patient, self.seed) if phantoms else None

    def build(self) -> nn.Module:
        """Return the network and its loss, with the same weights on every worker."""
        return ReidLoss(ReidNetwork.build(self.config, self.images.shape[-1], self.seed))

    def loss(self, model: nn.Module, step: int, part: slice, rows: Any) -> torch.Tensor:
        """Return the loss over some whole patients of a step's batch.

        Args:
            model: what `build` returned, possibly wrapped.
            step: which batch.
            part: positions of the batch that hold whole patients; pairs are formed within it, so the loss of two
                halves isn't that of the whole.
            rows: not used; the images are the objective's own.
        """
        device = next(model.parameters()).device
        chosen = self.batches.rows(step)
        views = Views.draw(len(chosen), self.images.shape[-1], derive_seed(self.seed, "batch", step))
        images = torch.from_numpy(self.images[chosen[part]]).to(device)
        labels = torch.from_numpy(self.batches.labels[chosen[part]]).to(device)
        pictures = views.part(part, device).apply(images)
        if self.rehearsal:
            share = slice(part.start / len(chosen), part.stop / len(chosen))
            phantoms, theirs = self.rehearsal.views(step, share, self.images.shape[-1], device)
            pictures, labels = torch.cat([pictures, phantoms]), torch.cat([labels, theirs])
        loss: torch.Tensor = model(pictures, labels)
        return loss

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the network, without the loss, as `config.json` and `model.safetensors`."""
        cast(ReidLoss, getattr(model, "module", model)).network.save(folder)
