"""Phantoms beside real images: where they stand, that they are nobody's, and that parts make up the whole."""

import numpy as np
import torch

from raydistill.core.training import BackboneConfig, OptimizerConfig, ReidConfig
from raydistill.data.phantom import render
from raydistill.reid.rehearsal import FIRST_LABEL, Rehearsal
from raydistill.reid.training import ReidObjective

CPU = torch.device("cpu")


def objective(**changed):
    people = np.repeat(np.arange(6), 2)
    images = render(people, np.tile([0, 1], 6), seed=2, resolution=32).images
    optimizer = OptimizerConfig(steps=1, batch_size=16, lr=1e-3)
    config = ReidConfig(images_per_patient=2, optimizer=optimizer, **changed)
    return ReidObjective(images, people.astype(str), config, seed=0)


def test_views_are_a_function_of_seed_and_step_and_of_no_real_patient():
    first, again, other = Rehearsal(3, 2, seed=1), Rehearsal(3, 2, seed=1), Rehearsal(3, 2, seed=2)
    whole = slice(0.0, 1.0)
    pictures, labels = first.views(4, whole, 32, CPU)
    assert pictures.shape == (6, 32, 32)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert len(set(labels.tolist())) == 3
    assert labels.min() >= FIRST_LABEL
    assert torch.equal(again.views(4, whole, 32, CPU)[0], pictures)
    assert not torch.equal(first.views(5, whole, 32, CPU)[0], pictures)
    assert not torch.equal(other.views(4, whole, 32, CPU)[0], pictures)


def test_parts_of_a_batch_have_their_part_of_the_phantoms():
    rehearsal = Rehearsal(4, 2, seed=1)
    pictures, labels = rehearsal.views(0, slice(0.0, 1.0), 64, CPU)
    halves = [rehearsal.views(0, slice(start, start + 0.5), 64, CPU) for start in (0.0, 0.5)]
    assert torch.equal(torch.cat([half[1] for half in halves]), labels)
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), pictures)


def test_only_the_packaged_weights_rehearse():
    packaged, scratch = objective(), objective(backbone=BackboneConfig(width=8))
    assert packaged.rehearsal is not None
    assert scratch.rehearsal is None
    assert objective(rehearsal=0.0).rehearsal is None
    shown = []
    model = packaged.build().eval()
    model.register_forward_pre_hook(lambda module, inputs: shown.append(inputs))
    packaged.loss(model, 0, slice(0, 16), {})
    images, labels = shown[0]
    assert images.shape == (16 + 8, 32, 32)
    assert (labels >= FIRST_LABEL).sum() == 8
