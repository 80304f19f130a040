import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from raydistill.core.section import Compute
from raydistill.metrics.classifier import FindingsObjective, predict
from raydistill.metrics.probe import FindingsProbe, label_matrix
from raydistill.stages.classifier import train_classifier


def pictures(n, seed, side=16):
    """Noise, with a bright square on the left for finding 0 and a dark bar at the bottom for finding 1."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.4).astype(np.float32)
    images = rng.normal(128, 20, (n, side, side))
    images[:, 4:10, 2:7] += 60 * labels[:, 0, None, None]
    images[:, 12:, :] -= 60 * labels[:, 1, None, None]
    return images.clip(0, 255).astype(np.uint8), labels


def trained_on(data, steps, seed):
    return train_classifier(*data, steps, seed, Compute(num_workers=1))


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return trained_on(pictures(300, 0), steps=60, seed=1)


def test_label_matrix():
    matrix = label_matrix([["nodule"], [], ["nodule", "effusion", "other"]], ["effusion", "nodule"])
    assert matrix.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert label_matrix([], ["effusion"]).shape == (0, 1)


def test_it_learns_what_can_be_seen(trained):
    images, labels = pictures(200, 9)
    scores = predict(trained, images)
    assert ((scores > 0.5) == labels).mean() > 0.95


def test_same_seed_same_network(trained):
    again = trained_on(pictures(300, 0), steps=60, seed=1)
    images, _ = pictures(20, 3)
    np.testing.assert_array_equal(predict(again, images), predict(trained, images))
    other = trained_on(pictures(300, 0), steps=5, seed=2)
    assert not np.allclose(predict(other, images), predict(trained, images))


def test_predictions_do_not_depend_on_the_batch(trained):
    images, _ = pictures(300, 4)
    whole = predict(trained, images)
    parts = np.concatenate([predict(trained, images[:7]), predict(trained, images[7:])])
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert predict(trained, images[:0]).shape == (0, 2)


def test_a_batch_is_the_sum_of_its_parts():
    objective = FindingsObjective(*pictures(50, 0), seed=3)
    model = objective.build().eval()
    with torch.inference_mode():
        whole = objective.loss(model, 7, slice(0, 8), {})
        halves = [objective.loss(model, 7, part, {}) for part in (slice(0, 4), slice(4, 8))]
    assert float(whole) == pytest.approx(float(sum(halves)) / 2, rel=1e-5)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    FindingsObjective(*pictures(5, 0), seed=3).build()
    assert torch.equal(torch.rand(1), expected)


def test_without_augmentation_the_network_sees_the_images():
    images, labels = pictures(5, 0)
    objective = FindingsObjective(images, labels, seed=3, max_shift=0, max_gain=0.0)
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, pixels, labels):
            seen.append(pixels)
            return type("Output", (), {"loss": pixels.mean()})

    objective.loss(Spy(1, 1), 0, slice(0, 6), {})
    shown = ((seen[0][:, 0] + 1) * 127.5).round().byte().numpy()
    assert all(any((one == image).all() for image in images) for one in shown)


def test_export_is_a_plain_folder(trained, tmp_path):
    images, labels = pictures(10, 0)
    FindingsObjective(images, labels, seed=1).export(trained, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    np.testing.assert_allclose(predict(loaded, images), predict(trained, images), atol=1e-6)


def test_labels_must_belong_to_the_images():
    images, labels = pictures(5, 0)
    with pytest.raises(ValueError, match="5 images and 4 rows"):
        FindingsObjective(images, labels[:4], seed=0)
    with pytest.raises(ValueError, match="0 images"):
        FindingsObjective(images[:0], labels[:0], seed=0)


def test_probe_learns_and_survives_a_finding_nobody_has():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 5))
    labels = np.stack([features[:, 0] > 0, features[:, 1] > 1, np.zeros(200)], axis=1)
    scores = FindingsProbe().fit(features[:150], labels[:150]).predict(features[150:])
    assert scores.shape == (50, 3)
    assert ((scores[:, 0] > 0.5) == labels[150:, 0]).mean() > 0.9
    assert (scores[:, 2] == 0).all()
