"""A cohort without near-duplicates: the first of each stays, the others are quarantined and counted."""

from dataclasses import dataclass

from raydistill.data.records import Cleaned
from raydistill.matching.duplicates import near_duplicates


@dataclass(frozen=True)
class Duplicates:
    """How many rows were quarantined as duplicates.

    Attributes:
        exact: bytes or pixels of another row.
        exact_across_patients: those of them whose picture several patients have; none of these is kept.
        near: similar to an earlier picture, which is kept.
        near_across_patients: those of them whose kept picture is another patient's.
        near_duplicate_similarity: from which similarity; None when nothing was looked for.
    """

    exact: int
    exact_across_patients: int
    near: int
    near_across_patients: int
    near_duplicate_similarity: float | None

    def notes(self) -> list[str]:
        """Say what a custodian has to hear."""
        across = self.exact_across_patients + self.near_across_patients
        notes = []
        if self.exact or self.near:
            notes.append(
                f"duplicates are quarantined, for a model learns by heart what it sees twice: {self.exact} equal to "
                f"another picture, {self.near} near-duplicates (ingest.near_duplicate_similarity = "
                f"{self.near_duplicate_similarity})"
            )
        if across:
            notes.append(
                f"{across} of the duplicates are pictures under several patients' names: see quarantine/ and find out "
                "whose they are; splits and every figure by patient rely on the names"
            )
        return notes


def deduplicate(cleaned: Cleaned, threshold: float | None) -> tuple[Cleaned, Duplicates]:
    """Quarantine every record that is a near-duplicate of an earlier one, whoever's it is and whatever its role.

    Args:
        cleaned: the cohort, in the order of the source.
        threshold: lowest similarity of a near-duplicate, in (0, 1]; None keeps all.

    Returns:
        The cohort without them, and the counts.
    """
    records, details, across = cleaned.records, dict[int, str](), 0
    found = {} if threshold is None else near_duplicates(cleaned.images(), threshold)
    for place, near in found.items():
        record, kept = records[place], records[near.of]
        same = kept.patient_id == record.patient_id
        across += not same
        owner = "" if same else " another patient's"
        details[place] = f"similarity {near.similarity:.4f} to{owner} {kept.image_id}, which is kept"
    exact = cleaned.reasons().get("duplicate_image", 0)
    counts = Duplicates(exact, cleaned.shared, len(found), across, threshold)
    return cleaned.without(details, "near_duplicate"), counts
