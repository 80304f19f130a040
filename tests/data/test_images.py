import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.data.images import BAD_IMAGE_REASONS, BadImage, decode, decode_batch, encode_png, fit_square

GREY = np.random.default_rng(0).integers(0, 256, (24, 31), dtype=np.uint8)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data, **options):
    with pytest.raises(BadImage) as caught:
        decode(data, **options)
    assert caught.value.reason in BAD_IMAGE_REASONS
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_grey_level(kind):
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(GREY), kind)), GREY)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_read(kind):
    np.testing.assert_allclose(decode(encoded(Image.new("L", (20, 10), 100), kind)), 100, atol=3)


def test_png_round_trip_is_exact_and_deterministic():
    assert encode_png(GREY) == encode_png(GREY.copy())
    np.testing.assert_array_equal(decode(encode_png(GREY)), GREY)


def test_deep_grey_is_stretched_from_the_range_it_uses():
    twelve_bit = np.array([[100, 4095], [2097, 100]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(twelve_bit))), [[0, 255], [127, 0]])
    assert (decode(encoded(Image.fromarray(np.full((4, 4), 900, np.uint16)))) == 0).all()
    floats = Image.fromarray(np.array([[-1.0, 3.0]], np.float32))
    np.testing.assert_array_equal(decode(encoded(floats, "TIFF")), [[0, 255]])


def test_nan_pixels_are_refused():
    assert reason_of(encoded(Image.fromarray(np.array([[np.nan, 1]], np.float32)), "TIFF")) == "no_pixels"


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "1", "LA", "RGBA"])
def test_every_mode_becomes_luminance(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = Image.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)).convert(mode)
    expected = np.where(GREY > 127, 255, 0)
    np.testing.assert_allclose(decode(encoded(picture, kind)), expected, atol=2)


def test_transparency_lies_on_black():
    assert (decode(encoded(Image.new("RGBA", (5, 5), (255, 255, 255, 0)))) == 0).all()
    np.testing.assert_allclose(decode(encoded(Image.new("LA", (5, 5), (200, 128)))), 100, atol=1)
    palette = Image.new("P", (5, 5), 0)
    palette.putpalette([255, 255, 255])
    assert (decode(encoded(palette, transparency=0)) == 0).all()


def test_orientation_tag_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.fromarray(GREY), "JPEG", exif=exif)).shape == (31, 24)


def test_bad_pictures_have_a_reason():
    good = encode_png(GREY)
    assert reason_of(b"") == "empty"
    assert reason_of(b"hello world") == "not_an_image"
    assert reason_of(encoded(Image.fromarray(GREY), "GIF")) == "not_an_image"
    assert reason_of(good[: len(good) // 2]) == "broken"
    frames = [Image.new("L", (4, 4), level) for level in (0, 200)]
    assert reason_of(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])) == "several_frames"
    assert reason_of(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])) == "several_frames"


def test_large_pictures_are_refused_before_decoding():
    data = encoded(Image.new("1", (20_000, 12_000)))
    assert len(data) < 100_000
    assert reason_of(data) == "too_large"
    assert reason_of(encode_png(GREY), max_pixels=24 * 31 - 1) == "too_large"
    assert decode(encode_png(GREY), max_pixels=24 * 31).shape == (24, 31)


@settings(max_examples=150)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]), st.data())
def test_damaged_bytes_give_a_picture_or_a_reason(kind, data):
    content = bytearray(encoded(Image.fromarray(GREY), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        picture = decode(bytes(content[:cut]), max_pixels=1_000_000)
    except BadImage:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 2


@pytest.mark.parametrize("shape", [(40, 40), (40, 90), (90, 40), (7, 7), (1, 5000)])
def test_fit_square_has_the_asked_size_and_keeps_the_level(shape):
    fitted = fit_square(np.full(shape, 77, np.uint8), 16)
    assert fitted.shape == (16, 16)
    assert (fitted == 77).all()


def test_fit_square_cuts_the_centre_and_does_not_alias():
    image = np.zeros((32, 96), np.uint8)
    image[:, 32:64] = 255
    assert (fit_square(image, 32) == 255).all()
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    np.testing.assert_allclose(fit_square(stripes, 8)[2:-2, 2:-2], 127, atol=8)


def test_decode_batch_stacks():
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(decode_batch([encode_png(image) for image in images]), images)
    assert decode_batch([]).shape == (0, 0, 0)
    with pytest.raises(ValueError, match="shape"):
        decode_batch([encode_png(images[0]), encode_png(GREY)])
