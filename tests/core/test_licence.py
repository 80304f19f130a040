"""The licence of a bundle: known by its SPDX id, with its text, or one's own."""

import pytest

from raydistill.core.errors import ConfigError
from raydistill.core.licence import TEXTS, read_licence, spelled
from raydistill.core.loading import load_config


def release(*overrides):
    return load_config(None, [f"release.{override}" for override in overrides]).release


@pytest.mark.parametrize("name", TEXTS)
def test_every_packaged_licence_has_its_text_and_tag(name):
    licence = read_licence(spelled(name.lower()), None)
    assert licence.name == name
    assert len(licence.text) > 2000
    assert "licen" in licence.text.lower() or "Public License" in licence.text
    assert licence.front_matter == {"license": licence.tag}
    assert licence.tag == ("odc-by" if name == "ODC-By-1.0" else name.lower())
    assert spelled(licence.tag) == name
    assert licence.url == f"https://spdx.org/licenses/{name}.html"


def test_the_licences_are_the_ones_that_they_say():
    assert "Attribution-NonCommercial 4.0 International" in read_licence("CC-BY-NC-4.0", None).text
    assert "Version 2.0, January 2004" in read_licence("Apache-2.0", None).text
    assert "CC0 1.0 Universal" in read_licence("CC0-1.0", None).text


def test_an_unknown_one_is_refused_in_a_line_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"release\.licence: .*did you mean CC-BY-4\.0\?.*release\.licence_text: FILE"
    ):
        release("licence=cc-by-4")
    with pytest.raises(ConfigError, match=r"There are Apache-2\.0, .*\(got 'EULA-9'\)"):
        release("licence=EULA-9")


def test_one_s_own_text_is_taken_and_no_text_grants_nothing(tmp_path):
    (tmp_path / "terms.txt").write_text("Ask the ethics board. Ä\n", encoding="utf-8")
    told = release("licence=other", f"licence_text={tmp_path}/terms.txt")
    own = read_licence(told.licence, told.licence_text)
    assert own.text == "Ask the ethics board. Ä\n"
    assert own.front_matter == {"license": "other", "license_name": "own-terms", "license_link": "LICENSE"}
    none = read_licence("other", None)
    assert "No licence is granted" in none.text
    assert none.url is None


def test_a_text_beside_a_known_licence_is_refused():
    with pytest.raises(ConfigError, match=r"licence_text is for licence: other; CC0-1\.0 has its own text"):
        release("licence=CC0-1.0", "licence_text=terms.txt")


@pytest.mark.parametrize(("content", "words"), [(None, "can't be read"), (b"\xff\xfe", "UTF-8"), (b" \n", "is empty")])
def test_a_text_that_cannot_be_read_is_one_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=f"licence_text: .*terms.txt.*{words}"):
        read_licence("other", str(tmp_path / "terms.txt"))
