from dataclasses import fields

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data.phantom import render
from raydistill.reid import augmentation
from raydistill.reid.augmentation import Views, gaussian_blur

CPU = torch.device("cpu")
SIDE = 20  # two pixels are MAX_SHIFT of it


def pictures(number=6, side=SIDE):
    patients = np.arange(number)
    return torch.from_numpy(render(patients, np.zeros_like(patients), seed=5, resolution=side).images)


def still(number=6, side=SIDE, **choices):
    """Views that change nothing but what `choices` say."""
    neutral = {
        "pose": torch.zeros(number, 4),
        "grey": torch.zeros(number, 2),
        "amount": torch.zeros(number, 2),
        "box": torch.full((number, 4), 0.5),
        "occluded": torch.zeros(number, dtype=torch.bool),
        "noise": torch.randn(number, side, side, generator=torch.Generator().manual_seed(0)),
    }
    return Views(**neutral | choices)


def choices(views):
    return {field.name: getattr(views, field.name) for field in fields(views)}


def test_the_choices_are_a_function_of_the_seed_and_leave_the_global_stream_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, other = choices(Views.draw(8, SIDE, 2**63 - 1)), choices(Views.draw(8, SIDE, 4))
    assert torch.equal(torch.rand(3), expected)
    for name, values in choices(Views.draw(8, SIDE, 2**63 - 1)).items():
        assert torch.equal(values, first[name])
        assert not torch.equal(values, other[name])


def test_the_choices_fill_their_ranges():
    views = Views.draw(4000, 1, 0)
    for name, low in (("pose", -1), ("grey", -1), ("amount", 0), ("box", 0)):
        values = getattr(views, name)
        assert low <= values.min() < low + 0.01
        assert 0.99 < values.max() <= 1
    assert 0.45 < views.occluded.float().mean() < 0.55
    assert 0.95 < views.noise.std() < 1.05


@settings(max_examples=40)
@given(
    number=st.integers(1, 12), ends=st.tuples(st.integers(0, 12), st.integers(0, 12)), seed=st.integers(0, 2**63 - 1)
)
def test_a_part_of_the_batch_gets_what_the_whole_would_have_given_it(number, ends, seed):
    part, images, views = slice(min(ends), max(ends)), pictures(number, 16), Views.draw(number, 16, seed)
    for name, values in choices(views.part(part, CPU)).items():
        assert torch.equal(values, getattr(views, name)[part])
    if len(images[part]):
        alone = views.part(part, CPU).apply(images[part])
        torch.testing.assert_close(alone, views.apply(images)[part], atol=1e-6, rtol=0)


@settings(max_examples=40)
@given(side=st.sampled_from([16, 17, 32]), seed=st.integers(0, 2**63 - 1), kind=st.sampled_from(["random", "flat"]))
def test_a_view_keeps_shape_and_range(side, seed, kind):
    rng = np.random.default_rng(seed)
    images = rng.choice(np.array([0, 255], np.uint8), (4, *((side, side) if kind == "random" else (1, 1))))
    seen = Views.draw(4, side, seed).apply(torch.from_numpy(np.broadcast_to(images, (4, side, side)).copy()))
    assert seen.shape == (4, side, side)
    assert seen.dtype == torch.float32
    assert seen.min() >= 0
    assert seen.max() <= 1


def test_views_of_one_image_differ():
    seen = Views.draw(6, SIDE, 0).apply(pictures(1).expand(6, -1, -1))
    assert torch.pdist(seen.flatten(1)).min() > 0.5


def test_choices_that_change_nothing_show_the_image():
    # Black is lifted to 1e-4, so that the grey curve has a gradient everywhere.
    torch.testing.assert_close(still().apply(pictures()), pictures() / 255, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("axis", "column"), [(2, 2), (1, 3)])
def test_a_shift_moves_the_image_by_its_share_of_the_side(axis, column):
    pose = torch.zeros(6, 4)
    pose[:, column] = 1.0
    expected = pictures().float() / 255
    seen = still(pose=pose).apply(pictures())
    kept = SIDE - round(augmentation.MAX_SHIFT * SIDE)
    torch.testing.assert_close(seen.narrow(axis, 0, kept), expected.narrow(axis, SIDE - kept, kept), atol=2e-4, rtol=0)


@pytest.mark.parametrize("turn", [-1.0, 0.5, 1.0])
def test_a_rotation_is_that_of_scipy_away_from_the_border(turn):
    pose = torch.zeros(6, 4)
    pose[:, 0] = turn
    angle = np.degrees(augmentation.MAX_ROTATION) * turn
    expected = scipy.ndimage.rotate(pictures().numpy() / 255, angle, axes=(1, 2), reshape=False, order=1)
    seen = still(pose=pose).apply(pictures()).numpy()
    np.testing.assert_allclose(seen[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-3)


@pytest.mark.parametrize(("grey", "sign"), [([1.0, 0.0], -1), ([-1.0, 0.0], 1)])
def test_gamma_darkens_or_brightens_and_keeps_the_order_of_greys(grey, sign):
    seen, before = still(grey=torch.tensor([grey] * 6)).apply(pictures()), pictures() / 255
    assert (sign * (seen - before)).mean() > 0.02
    order = before.flatten(1).argsort(dim=1)
    assert (seen.flatten(1).gather(1, order).diff(dim=1) >= -1e-6).all()


def test_gain_spreads_the_greys_about_their_mean():
    images = (100 + pictures() // 8).to(torch.uint8)  # so that nothing is clipped
    before, seen = images / 255, still(grey=torch.tensor([[0.0, 1.0]] * 6)).apply(images)
    torch.testing.assert_close(seen.mean(dim=(1, 2)), before.mean(dim=(1, 2)))
    expected = np.exp(augmentation.MAX_LOG_GAIN) * before.std(dim=(1, 2))
    torch.testing.assert_close(seen.std(dim=(1, 2)), expected, rtol=1e-3, atol=0)


def test_only_occluded_images_get_a_box_of_their_own_mean():
    occluded = torch.arange(6) % 2 == 0
    box = torch.tensor([[0.5, 0.25, 1.0, 0.5]] * 6)
    seen, before = still(box=box, occluded=occluded).apply(pictures()), pictures() / 255
    changed = ((seen - before).abs() > 1e-3).any(dim=0)
    assert changed.nonzero().min(dim=0).values.tolist() == [3, 6]
    assert changed.nonzero().max(dim=0).values.tolist() == [6, 13]
    torch.testing.assert_close(seen[1::2], before[1::2], atol=2e-4, rtol=0)
    hidden, mean = seen[0::2, 3:7, 6:14], before[0::2].mean(dim=(1, 2))
    torch.testing.assert_close(hidden, mean[:, None, None].expand_as(hidden), atol=2e-4, rtol=0)


def test_a_zoom_is_that_of_scipy_about_the_centre():
    pose = torch.zeros(6, 4)
    pose[:, 1] = -1.0
    scale, centre = 1 - augmentation.MAX_ZOOM, (SIDE - 1) / 2
    expected = [
        scipy.ndimage.affine_transform(image, [scale] * 2, offset=centre * (1 - scale), order=1)
        for image in pictures().numpy() / 255
    ]
    np.testing.assert_allclose(still(pose=pose).apply(pictures()).numpy(), expected, atol=1e-3)


def test_the_share_of_blur_mixes_in_the_blurred_image():
    amount = torch.tensor([[0.75, 0.0]] * 6)
    seen, before = still(amount=amount).apply(pictures()), pictures() / 255
    expected = 0.25 * before + 0.75 * gaussian_blur(before, augmentation.BLUR_SIDES * SIDE)
    torch.testing.assert_close(seen, expected, atol=2e-4, rtol=0)


def test_noise_is_added_by_its_level():
    views = still(amount=torch.tensor([[0.0, 0.5]] * 6))
    grey = torch.full((6, SIDE, SIDE), 128, dtype=torch.uint8)
    added = views.apply(grey) - 128 / 255
    torch.testing.assert_close(added, 0.5 * augmentation.MAX_NOISE * views.noise, atol=1e-5, rtol=0)
