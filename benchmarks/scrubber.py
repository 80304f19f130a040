"""How much of what points at a person is taken out of invented report sentences, and what of the findings stays.

`python benchmarks/scrubber.py [--spacy-model NAME]`. Names, addresses and numbers are Faker's, of five countries;
sentences are invented here. Real reports have more ways to say things. A piece counts as found when no word or number
of it that isn't the sentence's own is left.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping

from faker import Faker

from raydistill.data.presidio import presidio
from raydistill.data.scrub import Finder, scrub

LOCALES = ["en_US", "en_GB", "de_DE", "es_ES", "pl_PL"]
SENTENCES = {
    "No pneumothorax, {} was told.": "No pneumothorax",
    "Compared to {}, the left effusion is smaller.": "left effusion is smaller",
    "Heart size is normal ({}).": "Heart size is normal",
    "{}: no focal consolidation.": "no focal consolidation",
    "There is no change since {}.": "no change",
    "Stable 5 mm nodule in the right upper lobe, {}.": "Stable 5 mm nodule in the right upper lobe",
}
"""And of each the finding, which must stay."""
DATES = ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%y", "%Y%m%d", "%d %b %y", "%B %d, %Y", "%d-%b-%Y", "%A, %B %d", "%b. %d '%y")
MARKS = ("___", "[**2118-3-4**]", "[**Last Name (un) 12**]", "XXXX", "[REDACTED]")
SHARED = re.compile(r"[\w']+")


def kinds(fake: Faker, rng: random.Random) -> Mapping[str, Callable[[], str]]:
    """Say how a piece of each kind is invented; whose country's it is is drawn at every call."""
    titles, ends = ("Dr. ", "Dr ", "Mrs. ", "Prof. "), (", MD", " RN", ", M.D.")
    began = ("Dictated by ", "discussed with ", "Electronically signed by: ", "Radiologist: ")
    return {
        "date": lambda: fake.date(rng.choice(DATES)),
        "month and year": lambda: fake.date(rng.choice(("%B %Y", "%m/%Y", "%b %Y"))),
        "date in words": lambda: rng.choice(("New Year's Eve", "the third of last month", "two weeks before Easter")),
        "name after a title": lambda: rng.choice(titles) + (fake.name() if rng.random() < 0.5 else fake.last_name()),
        "name before a degree": lambda: fake.first_name() + " " + fake.last_name() + rng.choice(ends),
        "name after its role": lambda: rng.choice(began) + fake.first_name() + " " + fake.last_name(),
        "name alone": lambda: rng.choice((fake.first_name() + " " + fake.last_name(), fake.last_name())),
        "name in lower case": lambda: f"dr {fake.first_name()} {fake.last_name()}".lower(),
        "record number": lambda: fake.bothify(rng.choice(("MRN ####", "MRN: ###-##-##", "ID ?####", "#######"))),
        "accession number": lambda: fake.bothify(rng.choice(("Accession: ##-#####", "acc. ??######", "CR-##-####"))),
        "social security number": lambda: fake["en_US"].ssn(),
        "phone number": lambda: fake.phone_number(),
        "age over 89": lambda: f"{rng.randint(90, 104)}{rng.choice(('-year-old', ' years old', ' y/o', 'yo'))}",
        "mark of de-identification": lambda: rng.choice(MARKS),
        "mail": lambda: fake.email(),
        "street": lambda: fake.street_address(),
        "hospital": lambda: f"{fake.last_name()} {rng.choice(('General Hospital', 'Clinic', 'Medical Center'))}",
        "town": lambda: fake.city(),
    }


def measure(finder: Finder | None, rounds: int, seed: int) -> dict[str, float]:
    """Return the share found by kind, and under `finding stays` that of sentences whose finding is whole."""
    fake, rng, found, whole = Faker(LOCALES), random.Random(seed), Counter[str](), 0
    fake.seed_instance(seed)
    invent = kinds(fake, rng)
    for _ in range(rounds):
        for kind, piece in ((kind, make()) for kind, make in invent.items()):
            sentence, finding = rng.choice(list(SENTENCES.items()))
            left, _removed = scrub(sentence.format(piece), finder)
            said = set(SHARED.findall(piece)) - set(SHARED.findall(sentence)) - ROLE_WORDS
            found[kind] += not said & set(SHARED.findall(left))
            whole += finding in left
    return {kind: found[kind] / rounds for kind in invent} | {"finding stays": whole / rounds / len(invent)}


ROLE_WORDS = {
    "Dictated",
    "by",
    "discussed",
    "with",
    "Electronically",
    "signed",
    "Radiologist",
    "the",
    "of",
    "s",
    "before",
}
"""Words of pieces that point at nobody."""


def main() -> None:
    """Print the shares as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacy-model", help="also with this model")
    arguments = parser.parse_args()
    finders: dict[str, Finder | None] = {"rules": None, "rules and Presidio": presidio(None)}
    if arguments.spacy_model:
        finders["and a model"] = presidio(arguments.spacy_model)
    shares = {name: measure(finder, arguments.rounds, arguments.seed) for name, finder in finders.items()}
    print("| kind | " + " | ".join(shares) + " |\n|---|" + "---|" * len(shares))
    for kind in shares["rules"]:
        print(f"| {kind} | " + " | ".join(f"{100 * share[kind]:.0f} %" for share in shares.values()) + " |")
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
