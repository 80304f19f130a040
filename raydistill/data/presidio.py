"""Presidio as a finder beside the rules: phone numbers, numbers with check digits, and names by a spaCy model.

Nothing is asked of a network: recognizers that would fetch a list (of addresses in mails and of links; the rules have
both) aren't used, and a model must be there already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raydistill.core.config import PromptConfig
from raydistill.core.errors import InputError
from raydistill.data.scrub import Finder, Found

EXTRA = "ingest.prompts.scrubber=presidio needs Presidio: pip install 'raydistill[text]'"
LANGUAGE = "en"
RECOGNIZERS = (
    "DateRecognizer", "UsSsnRecognizer", "UsItinRecognizer", "NhsRecognizer",
    "MedicalLicenseRecognizer", "IbanRecognizer", "CreditCardRecognizer", "IpRecognizer", "MacAddressRecognizer",
    "UuidRecognizer",
)  # fmt: skip
"""Of Presidio, those that need no words around a number to be sure of it."""
REGIONS = (
    "US", "CA", "GB", "IE", "AU", "NZ", "IN", "IL", "BR", "MX", "DE", "AT", "CH", "FR", "BE", "NL", "ES", "PT", "IT",
    "PL", "CZ", "SE", "DK", "NO", "FI",
)  # fmt: skip
"""Whose phone numbers are known also without their country's code."""
KINDS = {"DATE_TIME": "date", "PHONE_NUMBER": "phone", "PERSON": "name", "LOCATION": "place"}
"""Kind of what is found; everything else is an identifier."""
LABELS = {"PERSON": "PERSON", "PER": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
"""Labels of spaCy models that are used, as Presidio calls them: OntoNotes' and those of WikiNER."""
LEAST_SCORE = 0.4
"""What Presidio gives a number that can be a phone's; dates of which less is certain have less."""


@dataclass(frozen=True)
class Presidio:
    """A finder.

    Args:
        engine: Presidio's `AnalyzerEngine`.
        versions: of the packages and of the model that decide what is found.
    """

    engine: Any
    versions: dict[str, str]

    def __call__(self, text: str) -> Iterator[Found]:
        """Find what points at a person."""
        for one in self.engine.analyze(text, language=LANGUAGE, score_threshold=LEAST_SCORE):
            yield Found(KINDS.get(one.entity_type, "identifier"), one.start, one.end)


def finder_of(config: PromptConfig) -> Finder | None:
    """Return what finds more than the rules, as configured.

    Raises:
        InputError: when it isn't installed, or there is no such model.
    """
    return presidio(config.spacy_model) if config.scrubber == "presidio" else None


def versions_of(config: PromptConfig) -> dict[str, str]:
    """Return the versions that decide what is found besides the rules; errors as those of `finder_of`."""
    return presidio(config.spacy_model).versions if config.scrubber == "presidio" else {}


@lru_cache(maxsize=1)
def presidio(model: str | None) -> Presidio:
    """Make the finder.

    Args:
        model: a spaCy model with names, by name or folder; without one names aren't looked for.

    Raises:
        InputError: when Presidio isn't installed, or there is no such model.
    """
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers
        from presidio_analyzer.nlp_engine import NoOpNlpEngine
    except ImportError as error:
        raise InputError(f"{EXTRA} ({error})") from None

    recognizers = [getattr(predefined_recognizers, name)(supported_language=LANGUAGE) for name in RECOGNIZERS]
    recognizers.append(predefined_recognizers.PhoneRecognizer(supported_language=LANGUAGE, supported_regions=REGIONS))
    registry = RecognizerRegistry(recognizers=recognizers, supported_languages=[LANGUAGE])
    versions = {name: version(name) for name in ("presidio-analyzer", "phonenumbers")}
    if model is None:
        engine = NoOpNlpEngine([{"lang_code": LANGUAGE, "model_name": "none"}])
    else:
        engine = _reading(model)
        registry.add_nlp_recognizer(engine)
        meta = engine.nlp[LANGUAGE].meta
        versions |= {"spacy": version("spacy"), f"{meta['lang']}_{meta['name']}": meta["version"]}
    return Presidio(AnalyzerEngine(registry, engine, supported_languages=[LANGUAGE]), versions)


def _reading(model: str) -> Any:
    """Load a spaCy model; one that isn't there would be fetched otherwise."""
    import spacy
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    where = f"ingest.prompts.spacy_model={model}"
    if not spacy.util.is_package(model) and not Path(model).is_dir():
        raise InputError(f"{where}: no such model; name its folder, or python -m spacy download {model}")
    labels = NerModelConfiguration(model_to_presidio_entity_mapping=LABELS)
    engine = SpacyNlpEngine([{"lang_code": LANGUAGE, "model_name": model}], labels)
    try:
        engine.load()
    except (OSError, ValueError) as error:
        raise InputError(f"{where} can't be read as a spaCy model: {' '.join(str(error).split())[:200]}") from error
    loaded: Any = engine.nlp
    nlp = loaded[LANGUAGE]
    if not any("doc.ents" in nlp.get_pipe_meta(name).assigns for name in nlp.pipe_names):
        raise InputError(f"{where} has no part that finds names (ner or entity_ruler)")
    labels.labels_to_ignore = _other_labels(nlp)
    return engine


def _other_labels(nlp: Any) -> list[str]:
    """Labels of a model that aren't used."""
    return sorted({label for labels in nlp.pipe_labels.values() for label in labels} - LABELS.keys())
