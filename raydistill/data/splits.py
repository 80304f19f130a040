"""Roles: which images a model may see, which tell whether it knows a patient, which set thresholds, which judge.

Patients never straddle `train | calibration | evaluation`; `probe` holds withheld images of train patients.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from raydistill.core.columns import ROLES
from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.seeds import derive_seed

MIN_PATIENTS = 8
"""Fewer can't fill four roles with more than a patient or two."""
SHOWN = 3


def assign_roles(
    patient_ids: Sequence[str],
    studies: Sequence[int],
    image_ids: Sequence[str],
    given_roles: Sequence[str | None],
    config: IngestConfig,
    seed: int,
) -> list[str]:
    """Give every image its role.

    Patients are dealt by shares, and so that the roles are alike in how many images a patient has: somebody who comes
    often is often sicker, and roles must differ in nothing but whom a model saw. A `probe_share` of the train patients
    with several studies gives one of them, drawn by chance, as probes: another view of a study that a model saw would
    be found too easily. Where nobody has several, patients with several images give one of those. At least one gives
    none, where there are two or more, and a single one keeps two images. Whoever has more than
    `max_train_images_per_patient` left gives the others, too, whole studies first: what a model sees of one person is
    bounded.

    Args:
        patient_ids: patient of every image.
        studies: number of every image's study among the patient's.
        image_ids: unique names.
        given_roles: the source's own roles: for all images, or for none; they are taken as they are.
        config: the shares.
        seed: with the patient ids it decides who is where; the order of the images doesn't matter.

    Returns:
        One of `columns.ROLES` an image.

    Raises:
        InputError: when roles are given in part or contradict each other, or patients are too few for the roles.
    """
    images = Counter(patient_ids)
    _check_cohort(images)
    given = [role for role in given_roles if role is not None]
    if not given:
        return _deal(patient_ids, studies, image_ids, images, config, seed)
    if len(given) < len(given_roles):
        raise InputError(
            f"{len(given)} of {len(given_roles)} images have a role; give a role to all of them or drop the column"
        )
    _check_given(patient_ids, given)
    return given


def _check_cohort(images: Mapping[str, int]) -> None:
    if len(images) < MIN_PATIENTS:
        raise InputError(
            f"the cohort has {len(images)} patients; {MIN_PATIENTS} are the fewest that fill all roles: bring more"
        )
    if max(images.values()) < 2:
        raise InputError(
            f"none of the {len(images)} patients has two images, so re-identification can be neither learned nor "
            "measured; check that patient_id names patients and not images"
        )


def _deal(
    patient_ids: Sequence[str],
    studies: Sequence[int],
    image_ids: Sequence[str],
    images: Mapping[str, int],
    config: IngestConfig,
    seed: int,
) -> list[str]:
    by_patient = _deal_patients(images, config, seed)
    own: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for patient, study, image in zip(patient_ids, studies, image_ids, strict=True):
        own[patient].append((study, image))
    several = [patient for patient, role in by_patient.items() if role == "train" and len(own[patient]) > 1]
    returned = [patient for patient in several if len({study for study, _ in own[patient]}) > 1]
    by_study = bool(returned) and len(several) > 1
    keeps_two = [len(own[patient]) for patient in several] == [2]
    most = 0 if keeps_two else max(1, len(several) - 1)
    giving = _probe_patients(returned if by_study else several, config.probe_share, most, seed)
    withheld = set[str]()
    for patient in several:
        drawn = _drawn_studies(own[patient], seed)
        ordered = [image for study in drawn for image in study]
        first = (len(drawn[0]) if by_study else 1) if patient in giving else 0
        kept = config.max_train_images_per_patient or len(ordered)
        withheld |= {*ordered[:first], *ordered[first + kept :]}
    rows = zip(patient_ids, image_ids, strict=True)
    return ["probe" if image in withheld else by_patient[patient] for patient, image in rows]


def _drawn_studies(images: Sequence[tuple[int, str]], seed: int) -> list[list[str]]:
    """Put a patient's images in a drawn order, those of a study together, the study of the first image first."""
    drawn: dict[int, list[str]] = {}
    for study, image in sorted(images, key=lambda one: (derive_seed(seed, "probe image", one[1]), one[1])):
        drawn.setdefault(study, []).append(image)
    return list(drawn.values())


def _deal_patients(images: Mapping[str, int], config: IngestConfig, seed: int) -> dict[str, str]:
    """Rank the patients by their number of images; every few neighbours give one, so that the roles are alike in it.

    Somebody with several images, drawn at random, is never given: train always has such a patient.
    """
    calibration = max(1, round(len(images) * config.calibration_share))
    evaluation = max(1, round(len(images) * config.evaluation_share))
    if len(images) - calibration - evaluation < 2:
        raise InputError(
            f"ingest.calibration_share {config.calibration_share} and ingest.evaluation_share "
            f"{config.evaluation_share} leave fewer than 2 of {len(images)} patients for train; lower them"
        )
    drawn = {patient: derive_seed(seed, "split", patient) for patient in images}
    stays = min((patient for patient in images if images[patient] > 1), key=lambda patient: (drawn[patient], patient))
    ranked = sorted(images.keys() - {stays}, key=lambda patient: (-images[patient], drawn[patient], patient))
    for_evaluation = _one_of_each(ranked, evaluation, derive_seed(seed, "evaluation"))
    rest = [patient for patient in ranked if patient not in for_evaluation]
    for_calibration = _one_of_each(rest, calibration, derive_seed(seed, "calibration"))
    return {
        patient: "evaluation" if patient in for_evaluation else "calibration" if patient in for_calibration else "train"
        for patient in images
    }


def _one_of_each(ranked: Sequence[str], count: int, seed: int) -> set[str]:
    """Cut a ranking into so many parts of about one size and draw one member of each."""
    size = len(ranked)
    parts = [ranked[i * size // count : (i + 1) * size // count] for i in range(count)]
    return {min(part, key=lambda patient: (derive_seed(seed, patient), patient)) for part in parts}


def _probe_patients(patients: Sequence[str], share: float, most: int, seed: int) -> set[str]:
    """Draw a share of patients, one at least, `most` at most; of no share nobody."""
    shuffled = sorted(patients, key=lambda patient: (derive_seed(seed, "probe", patient), patient))
    return set(shuffled[: min(most, max(1, round(len(shuffled) * share)))]) if share else set()


def _check_given(patient_ids: Sequence[str], roles: Sequence[str]) -> None:
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise InputError(f"the source gives the roles {', '.join(unknown[:SHOWN])}; they may be {', '.join(ROLES)}")
    absent = sorted({"train", "calibration", "evaluation"} - set(roles))
    if absent:
        raise InputError(f"the source gives no image the role {' or '.join(absent)}; give some, or drop the column")
    held: dict[str, list[str]] = defaultdict(list)
    for patient, role in zip(patient_ids, roles, strict=True):
        held[patient].append(role)
    sides = {patient: {"train" if role == "probe" else role for role in own} for patient, own in held.items()}
    _refuse((p for p, own in sides.items() if len(own) > 1), "in two of train, calibration and evaluation")
    _refuse((p for p, own in held.items() if set(own) == {"probe"}), "probe images and no train image")
    if sum(own == {"train"} for own in sides.values()) < 2:
        raise InputError("by the source's roles there is one train patient; re-identification needs two to tell apart")
    if not any(len(own) > 1 for patient, own in held.items() if sides[patient] == {"train"}):
        raise InputError("by the source's roles no train patient has two images, so re-identification can't be learned")


def _refuse(patients: Iterable[str], fault: str) -> None:
    found = sorted(patients)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(f"{fault}: patient {', '.join(found[:SHOWN])}{more}; mend the roles of the source")
