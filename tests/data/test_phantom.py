"""The embedded cohort: determinism, truth of the records, visible findings, identity that persists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kstest

from raydistill.core.errors import InputError
from raydistill.data.anatomy import Draws, clinic, mix, parameters
from raydistill.data.attenuation import Scene, attenuation
from raydistill.data.phantom import FINDINGS, num_visits, render


def beam(patients, visits, resolution, present=None, seed=4):
    """Attenuation of rows with their findings replaced by `present`, without film or grain."""
    patient, visit = Draws(seed, patients), Draws(seed, patients, visits)
    record = clinic(patient, visit, visits)
    if present is not None:
        record.findings[:] = [name in present for name in FINDINGS]
    return attenuation(Scene.posed(parameters(patient, visit, record), resolution))


def reduced(images, factor):
    count, side, _ = images.shape
    return images.reshape(count, side // factor, factor, side // factor, factor).mean(axis=(2, 4))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40)), min_size=2, max_size=12), st.data())
def test_a_row_depends_on_its_own_numbers_only(rows, data):
    patients, visits = np.array(rows, np.int64).T
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    together = render(patients, visits, seed=1, resolution=33)
    mixed = render(patients[order], visits[order], seed=1, resolution=33)
    assert np.array_equal(mixed.images, together.images[order])
    assert mixed.labels == [together.labels[i] for i in order]
    alone = render(patients[:1], visits[:1], seed=1, resolution=33)
    assert np.array_equal(alone.images[0], together.images[0])
    assert (alone.labels[0], alone.view[0], alone.sex[0], alone.age[0]) == (
        together.labels[0],
        together.view[0],
        together.sex[0],
        together.age[0],
    )


def test_chunks_do_not_show():
    patients = np.arange(70)
    whole = render(patients, patients % 3, seed=2, resolution=32)
    parts = [render(patients[i : i + 7], patients[i : i + 7] % 3, seed=2, resolution=32) for i in range(0, 70, 7)]
    assert np.array_equal(whole.images, np.concatenate([part.images for part in parts]))


def test_seed_patient_and_visit_all_change_the_picture():
    patients, visits = np.array([5, 5, 6]), np.array([0, 1, 0])
    first, other = (render(patients, visits, seed=seed, resolution=32).images for seed in (0, 1))
    assert len({image.tobytes() for image in (*first, *other)}) == 6


def test_shapes_and_types():
    phantoms = render(np.arange(3), np.zeros(3, np.int64), seed=0, resolution=48)
    assert phantoms.images.shape == (3, 48, 48)
    assert phantoms.images.dtype == np.uint8
    assert phantoms.age.dtype == np.float32
    assert set(phantoms.view) <= {"PA", "AP"}
    assert set(phantoms.sex) <= {"F", "M"}
    empty = render(np.zeros(0, np.int64), np.zeros(0, np.int64), seed=0, resolution=32)
    assert empty.images.shape == (0, 32, 32)
    assert empty.labels == []


@pytest.mark.parametrize(
    ("patients", "visits", "resolution"), [([1], [0, 1], 32), ([1], [-1], 32), ([[1]], [[0]], 32), ([1], [0], 8)]
)
def test_impossible_requests_are_refused(patients, visits, resolution):
    with pytest.raises(InputError, match="phantom"):
        render(np.array(patients), np.array(visits), seed=0, resolution=resolution)


def test_splitmix_reference_values():
    # The first outputs of SplitMix64 seeded with 1234567, as published with its reference implementation.
    state = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mix(state).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_uniform_normal_and_independent():
    patients = np.arange(20_000)
    draws = Draws(0, patients)
    first, second = draws.uniform("a"), draws.uniform("b")
    visits = Draws(0, patients, np.zeros_like(patients)).uniform("a")
    assert kstest(first, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef([first, second, visits, np.roll(first, 1)]) - np.eye(4)).max() < 0.03
    normal = draws.normal("c")
    inner = np.abs(normal) < 2.0
    assert np.quantile(normal[inner], 0.9) == pytest.approx(ndtri(0.023 + 0.9 * 0.954), abs=0.05)


def test_visits_follow_the_stated_tail():
    visits = num_visits(np.arange(50_000), seed=3, max_visits=40)
    assert visits.min() == 1
    assert visits.max() == 40
    for least in (2, 3, 10, 40):
        assert (visits >= least).mean() == pytest.approx(least**-1.15, abs=0.01)
    assert np.array_equal(np.minimum(visits, 6), num_visits(np.arange(50_000), seed=3, max_visits=6))
    with pytest.raises(InputError, match="max_visits"):
        num_visits(np.arange(3), seed=0, max_visits=0)


def test_records_are_plausible_over_visits():
    patients, visits = np.repeat(np.arange(400), 5), np.tile(np.arange(5), 400)
    phantoms = render(patients, visits, seed=7, resolution=16)
    assert all(len(set(row)) == 1 for row in np.array(phantoms.sex).reshape(400, 5))
    age = phantoms.age.reshape(400, 5)
    assert (np.diff(age, axis=1) > 0).all()
    assert 18 <= age.min() <= age.max() <= 100
    assert 0.35 < np.mean([not names for names in phantoms.labels]) < 0.6
    assert 0.2 < np.mean(np.array(phantoms.view) == "AP") < 0.5
    for name in FINDINGS:
        present = np.array([name in names for names in phantoms.labels]).reshape(400, 5)
        chronic = present[present[:, 0]][:, 1:].mean()
        assert chronic > 2 * present[~present[:, 0]][:, 1:].mean(), name
        assert 0.03 < present.mean() < 0.25, name


@pytest.mark.parametrize("resolution", [32, 64])
@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_changes_the_picture_visibly(finding, resolution):
    patients, visits = np.arange(60), np.zeros(60, np.int64)
    change = np.abs(beam(patients, visits, resolution, {finding}) - beam(patients, visits, resolution, set()))
    area = (change > 0.05).mean(axis=(1, 2))
    assert (area > 0.003).mean() > 0.95
    assert area.mean() < 0.25


def test_a_finding_leaves_no_trace_on_other_rows():
    patients, visits = np.arange(60), np.zeros(60, np.int64)
    labels = render(patients, visits, seed=4, resolution=16).labels
    clean = np.array([not names for names in labels])
    assert 10 < clean.sum() < 50
    assert np.array_equal(beam(patients, visits, 32)[clean], beam(patients, visits, 32, set())[clean])


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_resolutions_look_alike(resolution):
    patients, visits = np.arange(40), np.ones(40, np.int64)
    fine = reduced(beam(patients, visits, 256), 256 // resolution).reshape(40, -1)
    coarse = beam(patients, visits, resolution).reshape(40, -1)
    likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(fine, coarse, strict=True)]
    assert min(likeness) > 0.98
    assert np.abs(fine - coarse).mean() < 0.02


def test_the_picture_is_a_frontal_radiograph():
    mean = render(np.arange(300), np.zeros(300, np.int64), seed=5, resolution=64).images.mean(axis=0)
    right_lung, left_lung, middle = mean[20:34, 14:22].mean(), mean[20:34, 42:50].mean(), mean[20:34, 29:35].mean()
    assert max(right_lung, left_lung) < 0.8 * middle
    assert mean[34:40, 37:42].mean() > mean[34:40, 22:27].mean() + 15, "the heart lies on the image's right"
    assert mean[52:].mean() > mean[20:34].mean()
    assert max(mean[:4, :8].mean(), mean[:4, -8:].mean()) < 60


def test_identity_is_in_the_pixels_but_not_given_away():
    patients, visits = np.repeat(np.arange(150), 3), np.tile(np.arange(3), 150)
    pixels = render(patients, visits, seed=0, resolution=32).images.reshape(450, -1).astype(np.float32)
    pixels -= pixels.mean(axis=0)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    similarity = pixels @ pixels.T
    np.fill_diagonal(similarity, -1.0)
    rank1 = (patients[similarity.argmax(axis=1)] == patients).mean()
    assert 0.2 < rank1 < 0.7


def test_everything_is_computed_in_single_precision():
    patients = np.arange(40)
    patient, visit = Draws(0, patients), Draws(0, patients, patients)
    quantities = parameters(patient, visit, clinic(patient, visit, patients))
    assert {values.dtype for values in quantities.values()} == {np.dtype(np.float32)}
    assert attenuation(Scene.posed(quantities, 32)).dtype == np.float32
