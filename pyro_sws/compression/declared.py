"""What a report says of its data: what the certificate assumes, and why there may be none."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch.utils.data import DataLoader

from pyro_sws.assess.report.report import Report
from pyro_sws.assess.report.shapes import CertificateRow
from pyro_sws.compression.counting import repeated
from pyro_sws.compression.plan import Data
from pyro_sws.compression.post_training.unlabelled import Predicted
from pyro_sws.compression.survey import Survey
from pyro_sws.inference.batch_reading import behind
from pyro_sws.inference.batches import Batch, Batches
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.loaders import augments

INDEPENDENT = "the training examples are independent draws, from where unseen ones come from"
OWN_ANSWERS = (
    "mistakes are disagreements with the network as it was, which may have seen these very inputs; "
    "certify(..., unlabelled=) with fresh inputs bounds how often the two differ"
)
BASED = (
    "the file is a difference to a base, which must not have seen the examples; "
    "certify(..., base=, base_saw=) compares them with what it was trained on"
)
FIXED = "the file format and the architecture were fixed before the data was seen"


def declared(
    report: Report,
    data: Data,
    seen: Survey,
    started: str,
    broken: Sequence[str],
    validation: int | None,
    based: bool = False,
) -> Report:
    """The report with the certificate's assumptions, or the reason why there is no certificate.

    ``started`` says what the network was that the fit set out from. What is known to be
    ``broken``, such as test examples that are training examples, is among the assumptions; where
    there is no certificate, among the warnings. ``validation`` is how many examples of it there
    are, and ``based`` whether the weights are differences to a base.
    """
    report = _counted(report, validation)
    if broken:  # such as test examples that are training examples
        report = replace(report, holdout=None)
    if based and report.certificate is not None:
        report = replace(report, certificate=None, certificate_reason=BASED)
    if isinstance(behind(data.train), Predicted):
        report = replace(report, certificate=None, certificate_reason=OWN_ANSWERS, holdout=None)
    warnings = list(report.warnings)
    if seen.doubt is not None:
        warnings.append(f"{seen.doubt}. label_bits is of draws, and N is {seen.size:,}")
    elif _is_part(report, seen):
        warnings.append(_part(report, seen))
    elif seen.draws > seen.size:
        warnings.append(
            f"a pass through train draws {seen.draws:,} times from {seen.size:,} examples: N, "
            "label_bits and the certificate count each of these once"
        )
    if report.certificate is None or seen.doubt is not None:
        warnings += broken
        reason = report.certificate_reason if report.certificate is None else seen.doubt
        return replace(report, certificate=None, certificate_reason=reason, warnings=warnings)
    assumes = [
        INDEPENDENT,
        FIXED,
        _start(started, data),
        *_augmented(data.train, seen),
        *_chosen(data),
    ]
    row = cast(CertificateRow, {**report.certificate, "assumes": [*assumes, *broken]})
    return replace(report, certificate=row, warnings=warnings)


def _counted(report: Report, validation: int | None) -> Report:
    if report.data is None or report.data["validation"] is not None:
        return report
    return replace(report, data={**report.data, "validation": validation})


def _is_part(report: Report, seen: Survey) -> bool:
    return report.data is not None and report.data["training"] != seen.size


def _part(report: Report, seen: Survey) -> str:
    measured = report.data["training"] if report.data is not None else 0
    return (
        f"N is {seen.size:,}; label_bits and the certificate are of the {measured:,} distinct "
        "examples of one pass through train"
    )


def _start(started: str, data: Data) -> str:
    line = f"start: {started}; whatever data it has seen, the bound holds"
    if data.test is None:
        return line
    return f"{line}, but the test score does only if it has not seen the test examples"


def _augmented(train: Iterable, seen: Survey) -> list[str]:
    train = behind(train)
    if isinstance(train, Batches) and train.augment is not None:
        return [
            "augmentation: the fit saw inputs changed anew in each pass; mistakes are counted on "
            "the examples as they are"
        ]
    if isinstance(train, DataLoader) and augments(train):
        return [
            "augmentation: the loader's dataset draws its examples anew; mistakes are counted on "
            "one drawing of each example, not on the examples as they are, and each of its indices "
            "is taken for an example of its own"
        ]
    found, looked_at = seen.anew
    if found:
        return [
            f"augmentation: {found:,} of the first {looked_at:,} examples of another pass through "
            "train are not among those of one pass: they are changed, or others are drawn, each "
            "time; mistakes are counted on the examples of one pass, as these came"
        ]
    return []


def _chosen(data: Data) -> list[str]:
    if data.validation is None:
        return []
    return [
        "validation: what is chosen by the validation examples makes their own score too good; the "
        "bound, which is of the training examples, holds for every choice"
    ]


def equal_examples(seen: Survey) -> list[str]:
    """What the count of the examples rests on where many are equal, and each has a place."""
    if not seen.repeats or seen.doubt is not None:
        return []
    return [
        f"{seen.repeats:,} of the training examples are equal to another one, and counted: where "
        "they are copies, such as of a rare class, N and the bound are of too many examples; give "
        "each once"
    ]


@dataclass(frozen=True)
class Shared:
    """What splits have of one another, a sentence each, and how many examples they have."""

    lines: list[str]
    examples: dict[str, int]  # by split
    repeats: tuple[str, ...] = ()  # a warning for each split whose examples come again


def shared_examples(
    data: Data, seen: Survey, seed: int, check: Callable[[str, Batch], None] | None = None
) -> Shared:
    """Which splits have examples of the training data, or of one another; one pass through each.

    ``check`` is given a split's name and each of its batches. Raises ValueError for targets that
    are NaN, and what ``pairs`` raises.
    """
    lines, splits = [], {}
    for name in ("validation", "test"):
        batches = getattr(data, name)
        if batches is None:
            continue
        with forked_rng(seed, torch.device("cpu")):
            shared, splits[name] = seen.seen.shared(batches, name, check)
        if shared:
            lines.append(
                f"{shared:,} of {len(splits[name]):,} {name} examples are equal to training "
                f"examples; unless that is chance, the {name} score is not one on unseen data"
            )
    if len(splits) == 2 and (shared := splits["test"].among(splits["validation"])):
        lines.append(
            f"{shared:,} of {len(splits['test']):,} test examples are equal to validation "
            "examples; what is chosen by these makes the test score too good, unless that is chance"
        )
    repeats = tuple(
        f"a pass through {name} draws {len(split):,} times from {len(split.counts()):,} distinct "
        "examples, and its score counts each draw; give each example once"
        for name, split in splits.items()
        if split.fractions and repeated(split, 1)  # equal whole numbers may be chance
    )
    return Shared(lines, {name: len(split) for name, split in splits.items()}, repeats)
