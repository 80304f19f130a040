import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest

from raydistill.data import decoding
from raydistill.data.decoding import Undecodable, decode_apart
from raydistill.data.dicom import read_instance
from raydistill.data.rows import Unusable

from .dicoms import dicom, pixels_of, ramp, shipped


def test_gives_the_stored_values():
    name = "MR_small_jpeg_ls_lossless.dcm"
    np.testing.assert_array_equal(decode_apart(shipped(name)), pixels_of(name))


def test_words_of_the_decoder_come_back():
    with pytest.raises(Undecodable, match="transfer_syntax_uid"):
        decode_apart(b"no DICOM")


@pytest.fixture
def process():
    """The next process that decodes."""
    decode_apart(dicom(ramp(255, np.uint8), "jpeg"))
    found = decoding.IDLE.get_nowait()
    decoding.IDLE.put(found)
    return found


def test_a_decoder_that_dies_costs_one_picture(process):
    content = dicom(ramp(255, np.uint8), "jpeg")
    process.kill()
    with pytest.raises(Unusable, match=r"undecodable: broken: Undecodable: the decoder died with exit code -9"):
        read_instance(content, _Config)
    assert read_instance(content, _Config).frames
    assert process.poll() == -9


def test_a_decoder_is_used_again(process):
    decode_apart(dicom(ramp(255, np.uint8), "jpeg"))
    assert decoding.IDLE.get_nowait() is process
    decoding.IDLE.put(process)


def test_threads_that_decode_at_a_time_have_a_process_each():
    contents = [dicom(ramp(top, np.uint8), "jpeg2000") for top in range(40, 52)]
    with ThreadPoolExecutor(3) as pool:
        for content, pixels in zip(contents, pool.map(decode_apart, contents), strict=True):
            np.testing.assert_array_equal(pixels, pydicom.dcmread(io.BytesIO(content)).pixel_array)


class _Config:
    modalities, burned_in = (), "accept"
