"""How many training examples there are, when a pass may draw one several times."""

import math
from dataclasses import dataclass, replace

from pyro_sws.inference.examples import Seen

CHANCE = 0.01  # repeats up to this share of a pass are taken for different examples that are equal


@dataclass(frozen=True)
class Counted:
    """The number N of examples, and which draws of a pass stand for them."""

    size: int
    of: int | None = 1  # of how many draws of an example one is kept; None: of all
    doubt: str | None = None  # why draws cannot be taken for examples, where they cannot
    copies: int = 1  # how often every example of a pass comes


def count(
    seen: Seen,
    *,
    trusted: bool,
    size: int | None,
    whole: bool,
    most: int | None = None,
    workers: int = 1,
    changed: bool = False,
) -> Counted:
    """N of a pass. ``trusted``: equal draws are different examples, but for whole copies.

    Examples that all come 2, 3, ... times are copies of the data, whatever gives them. Else equal
    draws are one example where inputs have fractions and most draws repeat another one; few of
    them, or whole numbers, which can be equal by chance, stay what they are, under a doubt; so do
    trusted ones where inputs have fractions and most repeat another.
    ``size`` is what the user says: it settles a doubt. ``whole``: a pass shows all the data.
    ``most``: as many as the dataset says it has; draws beyond that are repeats, changed or not.
    ``workers``: how many may each give every example, unlike the others' (see ``Seen.anew``).
    ``changed``: each draw may change its example, so that distinct draws may be of one.
    Raises ValueError for a size that cannot be.
    """
    counts = seen.counts()
    draws, distinct = int(counts.sum()), len(counts)
    if workers > 1 and size != draws:
        return Counted(size or draws, doubt=_by_workers(draws, workers))
    found = _counted(counts.tolist(), draws, trusted, seen.fractions)
    beyond = most is not None and found.size > most >= 1
    if most is not None and beyond:
        found = replace(found, size=most, doubt=_beyond(draws, most))
        distinct = min(distinct, most)
    elif changed and (size is None or size < draws):
        return Counted(size or draws, doubt=_by_changes(draws))
    if size is None or (beyond and size == found.size):
        return found
    if size == found.size:
        return Counted(size, found.of)
    if size == distinct:
        return Counted(size, None)
    if size == draws and found.copies == 1:
        return Counted(size)
    if size < distinct or whole or size == draws:
        raise ValueError(_impossible(size, draws, distinct, found))
    return replace(found, size=size)  # a pass is a sample of a stream


def _impossible(size: int, draws: int, distinct: int, found: Counted) -> str:
    shown = f"{found.size:,} examples"
    if draws != found.size:
        shown += f", in {draws:,} draws"
    if found.size != distinct:
        shown += f", {distinct:,} of them distinct"
    return (
        f"data_size = {size:,}, but a pass through train shows {shown}; leave data_size out, and "
        "they are counted"
    )


def repeated(seen: Seen, of: int | None) -> int:
    """How many of the examples that are counted are equal to another; 0 for a few, by chance."""
    counts = seen.counts()
    size = len(counts) if of is None else int(counts.sum()) // of
    repeats = size - len(counts)
    return repeats if repeats > CHANCE * size else 0


def _by_workers(draws: int, workers: int) -> str:
    return (
        f"a pass through train draws {draws:,} times, by {workers} workers, and changes examples "
        "or draws others each time; whether the workers give the same examples cannot be seen. If "
        f"each gives a part of its own, say data_size={draws}"
    )


def _by_changes(draws: int) -> str:
    return (
        f"a pass through train draws {draws:,} times, and changes examples or draws others each "
        "time; whether two draws are of one example cannot be seen. If each is of its own, say "
        f"data_size={draws}"
    )


def _beyond(draws: int, most: int) -> str:
    return (
        f"a pass through train draws {draws:,} times from a dataset of {most:,} examples, and "
        "which draws are of which example cannot be seen, as where each draw changes its inputs"
    )


def _counted(counts: list[int], draws: int, trusted: bool, fractions: bool) -> Counted:
    distinct = len(counts)
    copies = math.gcd(*counts) if distinct > 1 else 1
    size = draws // copies
    repeats = size - distinct
    most_repeat = fractions and 2 * repeats > size
    if repeats <= CHANCE * size or (trusted and not most_repeat):
        return Counted(size, copies, copies=copies)
    if most_repeat and not trusted:
        return Counted(distinct, None)
    return Counted(
        size,
        copies,
        f"a pass through train draws {draws:,} times from {distinct:,} distinct examples; whether "
        f"equal ones are one example or several is not known. Say data_size={distinct} or "
        f"data_size={size}",
        copies,
    )
