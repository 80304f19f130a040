import numpy as np
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


def test_a_decoder_that_dies_costs_one_picture(monkeypatch):
    content = dicom(ramp(255, np.uint8), "jpeg")
    first = decoding._process()
    first.kill()
    first.wait()
    with pytest.raises(Undecodable, match="died with exit code -9"):
        decode_apart(content)
    assert decode_apart(content).shape == (16, 16)
    decoding._process().kill()
    with pytest.raises(Unusable, match=r"undecodable: broken: Undecodable: the decoder died"):
        read_instance(content, _Config)
    assert read_instance(content, _Config).frames


class _Config:
    modalities, burned_in = (), "accept"
