"""Presidio beside the rules: what either finds goes; it is never needed, and never fetches anything."""

import importlib.metadata
import socket
import sys

import pytest
import spacy

from raydistill.core.config import PromptConfig
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.loading import load_config
from raydistill.data import presidio
from raydistill.data.scrub import scrub


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch):
    """Make each finder anew, and refuse whatever would leave the machine."""

    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    presidio.presidio.cache_clear()
    yield
    presidio.presidio.cache_clear()


@pytest.fixture
def model(tmp_path):
    """A spaCy model of its own kind: it knows one person, one town, and a label that isn't asked for."""
    nlp = spacy.blank("en")
    names = [
        {"label": "PERSON", "pattern": [{"LOWER": "ada"}, {"LOWER": "lane"}]},
        {"label": "GPE", "pattern": "Leeds"},
    ]
    nlp.add_pipe("entity_ruler").add_patterns([*names, {"label": "ORG", "pattern": "CT"}])
    nlp.meta |= {"name": "few_names", "version": "1.2.3"}
    nlp.to_disk(tmp_path / "few_names")
    return str(tmp_path / "few_names")


def with_presidio(**settings):
    return PromptConfig(policy="free_text", scrubber="presidio", **settings)


def test_rules_alone_ask_nobody():
    assert presidio.finder_of(PromptConfig()) is None
    assert presidio.versions_of(PromptConfig()) == {}


def test_numbers_are_found_without_a_model():
    finder = presidio.finder_of(with_presidio())
    text = "Call 22 478 96 37 on 12-Mar-2019, from 2001:db8::ff00:42:8329. No effusion, 5 mm nodule at T12."
    assert {found.kind for found in finder(text)} == {"phone", "date", "identifier"}
    cleaned, removed = scrub(text, finder)
    assert cleaned == "Call on, from. No effusion, 5 mm nodule at T12."
    assert {"phone", "date"} < set(removed)
    installed = {name: importlib.metadata.version(name) for name in ("presidio-analyzer", "phonenumbers")}
    assert presidio.versions_of(with_presidio()) == installed


def test_names_and_places_are_found_by_a_model(model):
    finder = presidio.finder_of(with_presidio(spacy_model=model))
    text = "Ada Lane of Leeds, and ada lane; CT shows no effusion."
    assert scrub(text)[0] == text
    assert scrub(text, finder) == ("of, and; CT shows no effusion.", {"name": 2, "place": 1})
    assert presidio.versions_of(with_presidio(spacy_model=model))["en_few_names"] == "1.2.3"


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    for name in ("en_core_web_lg", str(tmp_path)):
        with pytest.raises(InputError, match=r"ingest\.prompts\.spacy_model=.*(no such model|can't be read)") as error:
            presidio.finder_of(with_presidio(spacy_model=name))
        assert "\n" not in str(error.value)
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(InputError, match="no part that finds names"):
        presidio.finder_of(with_presidio(spacy_model=str(tmp_path / "blank")))
    with pytest.raises(ConfigError, match="spacy_model is read with scrubber=presidio alone"):
        load_config(None, ["ingest.prompts.spacy_model=en_core_web_lg"])
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(InputError, match=r"needs Presidio: pip install 'raydistill\[text\]'"):
        presidio.finder_of(with_presidio())
