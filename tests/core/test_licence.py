"""The licence of a bundle: known by its SPDX id, with one's own words, or none."""

import pytest

from raydistill.core.errors import ConfigError
from raydistill.core.licence import TAGS, read_licence, spelled
from raydistill.core.loading import load_config


def release(*overrides):
    return load_config(None, [f"release.{override}" for override in overrides]).release


@pytest.mark.parametrize("name", TAGS)
def test_a_licence_is_known_by_its_id_in_any_case_and_by_the_hub_s_tag(name):
    assert spelled(name.lower()) == spelled(TAGS[name]) == name
    licence = read_licence(name, None)
    assert licence.front_matter == {"license": TAGS[name]}
    assert licence.url == f"https://spdx.org/licenses/{name}.html"
    assert name in licence.text
    assert licence.url in licence.text


def test_one_that_the_hub_does_not_list_is_named_and_linked():
    named = {"license": "other", "license_name": "EUPL-1.2", "license_link": "LICENSE"}
    assert read_licence(spelled("eupl-1.2"), None).front_matter == named


@pytest.mark.parametrize("name", ["cc-by-4", "EULA-9", "MIT OR Apache-2.0", ""])
def test_an_unknown_one_is_refused_in_a_line(name):
    with pytest.raises(
        ConfigError, match=r"release\.licence: no licence of the SPDX list .*release\.licence_text: FILE"
    ):
        release(f"licence='{name}'")


@pytest.mark.parametrize("name", ["other", "CC-BY-4.0"])
def test_the_words_of_a_file_are_taken(tmp_path, name):
    (tmp_path / "terms.txt").write_text("Ask the ethics board. \u00c4\n", encoding="utf-8")
    told = release(f"licence={name}", f"licence_text={tmp_path}/terms.txt")
    own = read_licence(told.licence, told.licence_text)
    assert own.text == "Ask the ethics board. \u00c4\n"
    assert own.name == ("own-terms" if name == "other" else name)


def test_no_licence_grants_nothing():
    none = read_licence("other", None)
    assert "No licence is granted" in none.text
    assert none.url is None


@pytest.mark.parametrize(("content", "words"), [(None, "can't be read"), (b"\xff\xfe", "UTF-8"), (b" \n", "is empty")])
def test_a_text_that_cannot_be_read_is_one_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=f"licence_text: .*terms.txt.*{words}"):
        read_licence("other", str(tmp_path / "terms.txt"))
