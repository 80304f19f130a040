import io
import logging
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.sources import DicomConfig, DicomSource
from raydistill.data.dicom import read_instance
from raydistill.data.pseudonyms import pseudonymised
from raydistill.data.records import clean
from raydistill.data.rows import Unusable
from raydistill.data.sources import open_source

from .dicoms import IDENTIFYING, UNCOMPRESSED, dicom, lookup, pixels_of, ramp, shipped

CONFIG = DicomConfig()
KEY = bytes(range(32))


def grey(content, **options):
    (frame,) = read_instance(content, DicomConfig(**options)).frames
    return frame


def stretched(values):
    values = values.astype(float)
    return np.rint((values - values.min()) * 255 / (values.max() - values.min()))


def folder(path, files):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def source(path, **options):
    return open_source(DicomSource(kind="dicom", path=str(path), **options))


class TestPicture:
    @pytest.mark.parametrize("syntax", [*UNCOMPRESSED, "rle", "jpeg2000"])
    @pytest.mark.parametrize(
        ("top", "bits", "dtype"), [(4095, 12, np.uint16), (65535, 16, np.uint16), (255, 8, np.uint8)]
    )
    def test_every_depth_and_lossless_syntax_shows_the_same(self, syntax, top, bits, dtype):
        np.testing.assert_array_equal(grey(dicom(ramp(top, dtype), syntax, bits)), stretched(ramp(top, dtype)))

    def test_jpeg_shows_nearly_the_same(self):
        shown = grey(dicom(ramp(255, np.uint8, 32), "jpeg"))
        np.testing.assert_allclose(shown, stretched(ramp(255, np.uint8, 32)), atol=12)

    @pytest.mark.parametrize(
        ("compressed", "plain"),
        [
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
            ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
            ("MR_small_RLE.dcm", "MR_small.dcm"),
            ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
        ],
    )
    def test_compressed_files_of_others_show_what_the_plain_ones_do(self, compressed, plain):
        np.testing.assert_array_equal(grey(shipped(compressed)), grey(shipped(plain)))

    def test_jpeg_of_twelve_bits(self):
        name = "JPGExtended.dcm"
        content = shipped(name)
        dataset = pydicom.dcmread(io.BytesIO(content))
        assert dataset.BitsStored == 12
        stored = pixels_of(name)
        shown = grey(content)
        assert shown.shape == stored.shape
        assert np.corrcoef(shown.ravel(), np.clip(stored, 0, 4095).ravel())[0, 1] > 0.5

    def test_a_window_is_applied_after_the_rescale(self):
        pixels = ramp(4095)
        tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 2001}
        shown = grey(dicom(pixels, bits=12, **tags))
        values = pixels.astype(float) * 2 - 1000
        # PS3.3, C.11.2.1.2.1, with c = 1000 and w = 2001.
        expected = np.clip(((values - 999.5) / 2000 + 0.5), 0, 1) * 255
        np.testing.assert_allclose(shown, expected, atol=0.51)
        assert (shown[:, 0] == 0).all()
        assert (shown[:, -1] == 255).all()

    def test_a_window_wider_than_the_picture_is_no_stretch(self):
        shown = grey(dicom(ramp(1000), bits=12, WindowCenter=2048, WindowWidth=4096))
        assert 55 < shown.max() < 65

    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    def test_every_window_function_rises(self, function):
        shown = grey(dicom(ramp(4095), bits=12, WindowCenter=[2048, 7], WindowWidth=[2000, 9], VOILUTFunction=function))
        assert (np.diff(shown[0].astype(int)) >= 0).all()
        assert shown[0, 0] < 10
        assert shown[0, -1] > 245

    def test_a_voi_lut_goes_before_a_window(self):
        table = [255 - i for i in range(256)]
        pixels = ramp(255, np.uint8)
        tags = {"VOILUTSequence": lookup(0, table, 8), "WindowCenter": 100, "WindowWidth": 10}
        np.testing.assert_array_equal(grey(dicom(pixels, **tags)), 255 - pixels)

    def test_monochrome1_is_turned(self):
        pixels = ramp(4095)
        plain, turned = (grey(dicom(pixels, bits=12, PhotometricInterpretation=f"MONOCHROME{i}")) for i in (2, 1))
        np.testing.assert_array_equal(turned, 255 - plain)

    def test_signed_values(self):
        pixels = (ramp(2000).astype(np.int16) - 1000).astype(np.int16)
        np.testing.assert_array_equal(grey(dicom(pixels)), stretched(pixels))

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_stretches_nothing(self, photometric):
        pixels = ramp(1000)
        pixels[:4] = 65535
        shown = grey(dicom(pixels, PixelPaddingValue=65535, PhotometricInterpretation=photometric))
        assert not shown[:4].any()
        assert (shown[4:].min(), shown[4:].max()) == (0, 255)

    def test_values_of_more_than_sixteen_bits(self):
        pixels = ramp(3_000_000, np.uint32)
        pixels[0] = 4_000_000_000
        shown = grey(dicom(pixels))
        assert shown[0].min() == 255
        np.testing.assert_array_equal(shown[1:], np.rint(pixels[1:] * (255 / 4e9)))

    def test_colour_becomes_grey(self):
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[:, 2:] = 255
        shown = grey(dicom(pixels))
        assert set(shown[:, :2].ravel()) == {0}
        assert set(shown[:, 2:].ravel()) == {255}

    def test_a_flat_picture_is_black(self):
        assert not grey(dicom(np.full((4, 4), 700, np.uint16))).any()


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "reason", "detail"),
        [
            (b"", "undecodable", "not_dicom"),
            (b"not DICOM" * 50, "undecodable", "not_dicom"),
            (dicom(ramp(9), Modality="SR"), "left_out", "modality SR"),
            (dicom(ramp(9), Modality="DOE JOHN"), "left_out", "modality another"),
            (dicom(ramp(9), Modality=None), "left_out", "not said"),
            (dicom(ramp(9), BurnedInAnnotation="YES"), "burned_in", "is YES"),
            (dicom(np.zeros((3, 4, 4), np.uint8)), "undecodable", "several_frames: 3 frames"),
            (dicom(ramp(9), Rows=65535, Columns=65535), "too_large", "4294836225 pixels"),
            (dicom(ramp(9), Rows=17), "undecodable", "broken"),
            (dicom(ramp(9))[:-40], "undecodable", "broken"),
            (dicom(ramp(9), WindowCenter=5, WindowWidth=0), "undecodable", "broken"),
            (dicom(ramp(9), PhotometricInterpretation="NONSENSE", SamplesPerPixel=3), "undecodable", "broken"),
        ],
    )
    def test_each_has_its_reason(self, content, reason, detail):
        with pytest.raises(Unusable, match=detail) as caught:
            read_instance(content, CONFIG)
        assert caught.value.reason == reason

    def test_no_pixel_data(self):
        dataset = pydicom.dcmread(io.BytesIO(dicom(ramp(9))))
        del dataset.PixelData
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        with pytest.raises(Unusable, match="missing_image"):
            read_instance(buffer.getvalue(), CONFIG)

    def test_burned_in_can_be_accepted_or_must_be_denied(self):
        yes, no, unsaid = (dicom(ramp(9), BurnedInAnnotation=said) for said in ("YES", "NO", None))
        assert all(grey(content, burned_in="accept").any() for content in (yes, no, unsaid))
        assert grey(unsaid).any()
        assert grey(no, burned_in="require_no").any()
        for content in (yes, unsaid):
            with pytest.raises(Unusable, match="burned_in"):
                grey(content, burned_in="require_no")

    def test_modalities_are_chosen(self):
        assert grey(dicom(ramp(9), Modality="CT"), modalities=[]).any()
        assert grey(dicom(ramp(9), Modality="CT"), modalities=["CT"]).any()

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=1, max_size=8), st.floats(0, 1), st.sampled_from(["explicit", "implicit", "rle", "jpeg"]))
    def test_damage_is_a_picture_or_a_reason(self, noise, place, syntax):
        content = bytearray(dicom(ramp(255, np.uint8), syntax))
        start = int(place * (len(content) - len(noise)))
        content[start : start + len(noise)] = noise
        try:
            instance = read_instance(bytes(content), CONFIG)
        except Unusable as error:
            assert error.reason in ("undecodable", "too_large", "left_out", "burned_in", "missing_image")  # noqa: PT017
        else:
            assert all(frame.dtype == np.uint8 and frame.ndim == 2 for frame in instance.frames)

    @pytest.mark.parametrize("syntax", ["explicit", "jpeg"])
    def test_a_value_of_an_impossible_length_is_a_reason(self, syntax):
        content = bytearray(dicom(ramp(255, np.uint8), syntax))
        place = content.index(b"UL")
        content[place] = 0
        with pytest.raises(Unusable, match="undecodable: broken: BytesLengthException in its attributes"):
            read_instance(bytes(content), CONFIG)

    def test_without_pydicom_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
        with pytest.raises(InputError, match=r"pip install 'raydistill\[dicom\]'"):
            source(folder(tmp_path, {"a.dcm": b""})).check()


class TestFields:
    def test_what_is_used(self):
        found = read_instance(dicom(ramp(9), PatientID=" 007 "), CONFIG)
        assert found.patient_id == "007"
        assert found.fields == {"view": "pa", "sex": "female", "age": "057Y", "study_id": None}
        assert read_instance(dicom(ramp(9), StudyInstanceUID="1.2.3"), CONFIG).fields["study_id"] == "1.2.3"

    @pytest.mark.filterwarnings("ignore:Invalid value")
    def test_words_that_are_no_codes_are_not_taken_over(self):
        found = read_instance(dicom(ramp(9), ViewPosition="Lovelace", PatientSex="Ada"), CONFIG)
        assert found.fields == {"view": None, "sex": None, "age": "057Y", "study_id": None}

    def test_an_age_without_patients_age(self):
        tags = {"PatientAge": None, "PatientBirthDate": "19500630", "StudyDate": "20200629"}
        assert read_instance(dicom(ramp(9), **tags), CONFIG).fields["age"] == "69"
        for unknown in ({"StudyDate": None}, {"PatientBirthDate": "19500000"}, {"PatientBirthDate": "19501399"}):
            assert read_instance(dicom(ramp(9), **tags | unknown), CONFIG).fields["age"] is None


class TestFolder:
    def test_files_in_any_folders_are_rows_in_the_order_of_their_paths(self, tmp_path):
        files = {
            "b/2": dicom(ramp(20), PatientID="B"), "a/1.dcm": dicom(ramp(10), PatientID="A"), "DICOMDIR": b"x",
            ".hidden": b"x", "readme.txt": b"no image", "c.dcm": dicom(ramp(9), PatientID=None),
        }  # fmt: skip
        reader = source(folder(tmp_path, files))
        reader.check()
        rows = list(reader.rows())
        assert [row.row for row in rows] == [0, 1, 2, 3]
        assert [row.origin for row in rows] == ["a/1.dcm", "b/2", "c.dcm", "readme.txt"]
        assert [row.patient_id for row in rows] == ["A", "B", None, None]
        assert [row.problem and row.problem[0] for row in rows] == [None, None, None, "left_out"]
        assert clean(rows, IngestConfig(resolution=8)).reasons() == {"missing_patient": 1, "left_out": 1}
        assert rows[0].age == 57.0

    def test_frames_become_images_where_that_is_said(self, tmp_path):
        frames = np.stack([ramp(255, np.uint8), ramp(255, np.uint8).T])
        path = folder(tmp_path, {"a.dcm": dicom(frames), "b.dcm": dicom(ramp(9))})
        (refused, _) = source(path).rows()
        assert refused.problem[0] == "undecodable"
        rows = list(source(path, frames="split").rows())
        assert [row.row for row in rows] == [0, 1, 2]
        assert len({row.image_id for row in rows}) == 3
        np.testing.assert_array_equal(rows[1].image, frames[1])

    def test_the_viewer_of_an_export_is_left_out_and_damage_isn_t(self, tmp_path):
        viewer = {f"VIEWER/{number:03d}.dll": b"MZ" + bytes(200) for number in range(130)}
        damaged = {"a.dcm": b"", "b": b"text", "1.2.840.7": bytes(300), "c.dcm.gz": b"zip", "d.old": b"\x08\0\5\0CS"}
        reader = source(folder(tmp_path, {**viewer, **damaged, "ZDICOM/IM000001": dicom(ramp(20))}))
        reader.check()
        cleaned = clean(reader.rows(), IngestConfig(resolution=8, max_bad_rows=len(damaged)))
        assert cleaned.reasons() == {"left_out": len(viewer), "undecodable": len(damaged)}
        assert (len(cleaned.records), cleaned.rows) == (1, len(viewer) + len(damaged) + 1)

    def test_not_a_folder_of_dicom(self, tmp_path):
        with pytest.raises(InputError, match="no DICOM file among"):
            source(folder(tmp_path, {"a.png": b"x"})).check()
        with pytest.raises(InputError, match="no such folder"):
            source(tmp_path / "none").check()

    def test_nothing_that_identifies_comes_out(self, tmp_path, caplog):
        caplog.set_level(logging.DEBUG)
        tags = {**IDENTIFYING, "PatientID": "MRN-SECRET-0", "PatientAge": None}
        damaged = dicom(ramp(9), PatientID="MRN-SECRET-0", PatientName="Lovelace^Ada")[:-30]
        files = {"Lovelace/a.dcm": dicom(ramp(20), **tags), "Lovelace/b.dcm": damaged, "Lovelace/c.txt": b"Lovelace"}
        odd = dicom(ramp(30), **tags).replace(b"18151210", b"Lovelace")
        path = folder(tmp_path, {**files, "Lovelace/d.dcm": odd})
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            rows = list(pseudonymised(source(path).rows(), KEY))
        cleaned = clean(rows, IngestConfig(resolution=8))
        written = repr([vars(record) for record in cleaned.records]) + repr(cleaned.quarantine.to_pylist())
        written += caplog.text + repr([str(w.message) for w in warned])
        assert len(cleaned.records) == 2
        assert cleaned.records[0].age == 36.0
        dataset = pydicom.dcmread(path / "Lovelace/a.dcm")
        for secret in ("SECRET", "Lovelace", "Ada", "Babbage", "1815", "1852", "jockey", dataset.SOPInstanceUID, "777"):
            assert secret not in written
        assert rows[0].patient_id == rows[3].patient_id != "MRN-SECRET-0"
