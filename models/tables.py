"""Tables as tensors: those that come with scikit-learn, UCI's protein, a CSV file. Numpy and torch.

Inputs, and targets that are numbers, are standardised by the training rows' means and deviations:
a score in the targets' own unit is this times their deviation. Test and validation rows are drawn
by a seed, the test rows whatever is held out beside them.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import DataSet, Download, existing, given_folder, locate, read, sha256
from .splits import Splits, check_rows, hold_out

UCI = (
    "https://raw.githubusercontent.com/treforevans/uci_datasets/"
    "f0737523712fe66a1640e4b980b927e8490b58eb/uci_datasets/protein/"
)
ROWS, MASK = "protein.csv", "protein_test_mask.csv"
PROTEIN = DataSet(
    f"{ROWS} and {MASK}, the data.csv and test_mask.csv of uci_datasets' protein",
    ("uci",),
    {
        ROWS: Download(
            f"{UCI}data.csv.gz",
            "f709d0107c3ee90ab019b9e5d77fc2ae182158958cb70b1903236a51334fd01b",
            sha256,
        ),
        MASK: Download(
            f"{UCI}test_mask.csv.gz",
            "22afe05e8d17c428558d78a77efeecc08d58004b6c95741d1c533c3207c69fe9",
            sha256,
        ),
    },
)


def breast_cancer(test: int = 114, validation: int = 91) -> Splits:
    """569 tumours as (N, 30), malignant or benign; comes with scikit-learn."""
    inputs, labels = _embedded("load_breast_cancer")
    return _shuffled(inputs, labels.astype(np.int64), test, validation)


def wine(test: int = 58, validation: int = 0) -> Splits:
    """178 wines as (N, 13), of three cultivars; comes with scikit-learn."""
    inputs, labels = _embedded("load_wine")
    return _shuffled(inputs, labels.astype(np.int64), test, validation)


def diabetes(test: int = 88, validation: int = 71) -> Splits:
    """442 patients as (N, 10), and how far the disease went in a year; with scikit-learn."""
    inputs, targets = _embedded("load_diabetes", scaled=False)
    return _shuffled(inputs, targets[:, None], test, validation)


def protein(split: int = 0, validation: int = 4_000, data_dir: str | Path | None = None) -> Splits:
    """45,730 proteins as (N, 9), and a distance (N, 1); one of the ten published splits."""
    files = locate(PROTEIN, data_dir)
    rows, masks = (numbers(files[name]) for name in (ROWS, MASK))
    if len(rows) != len(masks):
        raise ValueError(
            f"{files[ROWS]} has {len(rows)} rows, and its mask {len(masks)}; take both from the "
            "same source"
        )
    if not 0 <= split < masks.shape[1]:
        raise ValueError(f"split={split}: give 0 to {masks.shape[1] - 1}, a column of {MASK}")
    order = _order(len(rows), seed=0)
    rows, in_test = rows[order], masks[order, split] == 1
    inputs, targets = rows[:, :-1], rows[:, -1:]
    train, test = ((inputs[part], targets[part]) for part in (~in_test, in_test))
    return _standardised(train, test, validation)


def csv(
    path: str,
    target: int | str = -1,
    labels: bool = False,
    test: int = 0,
    validation: int = 0,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Splits:
    """A table of numbers between commas, packed or not, with a line of names above it or none.

    ``path`` is in ``data_dir``, else in $PYRO_SWS_DATA, else in the working directory, if it is not
    absolute. ``target`` is a column's number, from -1 backwards, or its name: numbers, or with
    ``labels`` whole numbers from 0; all other columns are inputs. ``test`` and ``validation`` are
    numbers of rows. Raises FileNotFoundError without the file, ValueError for what is no number and
    for a column that is not there.
    """
    rows, names = named_numbers(_found(path, data_dir))
    column = _column(target, names, rows.shape[1])
    inputs, targets = np.delete(rows, column, axis=1), rows[:, [column]]
    if labels:
        targets = _as_labels(targets[:, 0], target)
    return _shuffled(inputs, targets, test, validation, seed)


def numbers(path: Path) -> np.ndarray:
    """A file of numbers between commas, (rows, columns). ValueError that names another one."""
    return named_numbers(path)[0]


def named_numbers(path: Path) -> tuple[np.ndarray, list[str]]:
    """The same, and the columns' names where the first line has such; else none."""
    text = read(path).decode()
    first = [word.strip().strip('"') for word in text.partition("\n")[0].split(",")]
    names = first if not all(map(_is_number, first)) else []
    try:
        rows = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=int(bool(names)), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: not a table of numbers between commas: {error}") from None
    if not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"{path}: no rows, or values that are not finite; leave such rows out")
    return rows, names


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _found(path: str, data_dir: str | Path | None) -> Path:
    place = (given_folder(data_dir) or Path()) / path
    file = existing(place.parent, place.name)
    if file is None:
        raise FileNotFoundError(
            f"no {place}; paths are relative to --data-dir, $PYRO_SWS_DATA or the working directory"
        )
    return file


def _column(target: int | str, names: list[str], columns: int) -> int:
    if isinstance(target, str):
        if target not in names:
            raise ValueError(f"target={target!r}: the columns are {', '.join(names) or 'unnamed'}")
        return names.index(target)
    if not -columns <= target < columns:
        raise ValueError(f"target={target}: the table has {columns} columns, 0 to {columns - 1}")
    return target


def _as_labels(targets: np.ndarray, target: int | str) -> np.ndarray:
    whole = targets.astype(np.int64)
    if (whole != targets).any() or whole.min() < 0:
        raise ValueError(f"target={target!r}: labels must be whole numbers from 0")
    return whole


def _embedded(loader: str, **options: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn import datasets
    except ImportError as error:
        remedy = "pip install 'pyro-sws[digits]'"
        raise ImportError(f"this data set comes with scikit-learn: {remedy}") from error
    return getattr(datasets, loader)(return_X_y=True, **options)


def _order(rows: int, seed: int) -> np.ndarray:
    # RandomState's stream is frozen for ever: the split is the same with every numpy.
    return np.random.RandomState(seed).permutation(rows)


def _shuffled(
    inputs: np.ndarray, targets: np.ndarray, test: int, validation: int, seed: int = 0
) -> Splits:
    check_rows("test", test, at_least=0, fewer_than=len(inputs))
    order = _order(len(inputs), seed)
    inputs, targets = inputs[order], targets[order]
    rest = inputs[test:], targets[test:]
    return _standardised(rest, (inputs[:test], targets[:test]), validation)


def _standardised(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], validation: int
) -> Splits:
    """By what is left of the training rows when the last ones are held out."""
    check_rows("validation", validation, at_least=0, fewer_than=len(train[0]))
    scaled = []
    for fitted, other in zip(train, test, strict=True):
        own = fitted[: len(fitted) - validation]
        labels = np.issubdtype(fitted.dtype, np.integer)
        mean, deviation = own.mean(0), own.std(0)
        deviation = np.where(deviation > 0, deviation, 1.0)  # a column that says nothing
        scaled.append([p if labels else (p - mean) / deviation for p in (fitted, other)])
    (inputs, targets), (test_inputs, test_targets) = (
        (_tensor(x), _tensor(y)) for x, y in zip(*scaled, strict=True)
    )
    splits = hold_out((inputs, targets), validation)
    return splits | {"test": (test_inputs, test_targets)} if len(test_inputs) else splits


def _tensor(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.float() if tensor.is_floating_point() else tensor
