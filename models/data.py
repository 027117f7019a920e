"""Labelled images as tensors: digits, MNIST, Fashion-MNIST and CIFAR-10. Numpy and torch.

Every reader returns {"train": (inputs, targets), "test": ..., "validation": ... if asked for},
inputs float32 and targets int64. Where files are looked for and downloaded to: see files.py.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .files import (
    DataSet,
    Download,
    cache_folder,
    existing,
    files_in,
    given_folder,
    locate,
    read,
    unpacked,
)
from .splits import Splits, check_rows, hold_out

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
UNSIGNED_BYTE = 8  # the IDX code of the only element type these data sets use


class Source(NamedTuple):
    """Where four IDX files come from, and how to tell them from another set's: the names agree."""

    name: str  # of the folder, too
    url: str
    md5: dict[str, str]  # of the gzipped files
    first_test_labels: tuple[int, ...]

    @property
    def data_set(self) -> DataSet:
        """The four files."""
        files = {name: Download(f"{self.url}{name}.gz", md5) for name, md5 in self.md5.items()}
        return DataSet(f"the four {self.name} files", (self.name,), files)


MNIST = Source(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    md5={
        TRAIN_IMAGES: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        TRAIN_LABELS: "d53e105ee54ea40749a09fcbcd1e9432",
        TEST_IMAGES: "9fb629c4189551a2d022fa330f9573f3",
        TEST_LABELS: "ec29112dd5afa0611ce80d1b7f02629c",
    },
    first_test_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
)
FASHION_MNIST = Source(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    md5={
        TRAIN_IMAGES: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        TRAIN_LABELS: "25c81989df183df01b3e8a0aad5dffbe",
        TEST_IMAGES: "bef4ecab320f06d8554ea6380940ec79",
        TEST_LABELS: "bb300cfdad3c16e7a12a480ee83cd310",
    },
    first_test_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
)

CIFAR_FOLDERS = "cifar-10-batches-bin", "cifar10"  # the first is as its archive unpacks
CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR_TEST = "test_batch.bin"
CIFAR_ARCHIVE = Download(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
)
CIFAR_WANTED = (
    "the six .bin files of CIFAR-10's binary version (not its pickled one), unpacked from "
    f"{CIFAR_ARCHIVE.url}"
)
CIFAR_SHAPE = 3, 32, 32
CIFAR_CLASSES = 10
# Means and deviations over the training pixels, a channel, of 255: as each network's authors
# rounded them, so that theirs and ours agree.
CIFAR_SCALES = {
    "wide_resnet": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),  # Zagoruyko & Komodakis
    "resnet_20": (  # Idelbayev: those of another data set
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
    ),
}


def digits(seed: int = 0, test: int = 360, validation: int = 0) -> Splits:
    """1,797 images as (N, 64) in [0, 1], shuffled by `seed`; the test rows ignore `validation`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        remedy = "pip install 'pyro-sws[digits]'"
        raise ImportError(f"the digits data set comes with scikit-learn: {remedy}") from error
    pixels, labels = load_digits(return_X_y=True)
    check_rows("test", test, at_least=1, fewer_than=len(labels))
    check_rows("validation", validation, at_least=0, fewer_than=len(labels) - test)
    # RandomState's stream is frozen for ever; default_rng's may change with numpy.
    order = np.random.RandomState(seed).permutation(len(labels))
    inputs = torch.from_numpy(pixels[order]).float() / 16.0
    targets = torch.from_numpy(labels[order]).long()
    train = inputs[test:], targets[test:]
    return hold_out(train, validation) | {"test": (inputs[:test], targets[:test])}


def mnist(
    input_scale: float = 255.0, validation: int = 0, data_dir: str | Path | None = None
) -> Splits:
    """60,000 + 10,000 images as (N, 1, 28, 28), pixels / input_scale (Caffe's networks: 256)."""
    return read_images(MNIST, input_scale, validation, data_dir)


def fashion_mnist(
    input_scale: float = 255.0, validation: int = 0, data_dir: str | Path | None = None
) -> Splits:
    """60,000 + 10,000 images as (N, 1, 28, 28), pixels / input_scale."""
    return read_images(FASHION_MNIST, input_scale, validation, data_dir)


def cifar10(
    validation: int = 0,
    scale: Literal["wide_resnet", "resnet_20"] = "wide_resnet",
    data_dir: str | Path | None = None,
) -> Splits:
    """50,000 + 10,000 images as (N, 3, 32, 32), each channel scaled as a network's authors do.

    From the binary version, unpacked; the last ``validation`` training images are held out. Raises
    ValueError for an unknown scale.
    """
    if scale not in CIFAR_SCALES:
        raise ValueError(f"scale={scale!r}: give one of {', '.join(CIFAR_SCALES)}")
    files = locate_cifar(data_dir)
    train = read_cifar([files[name] for name in CIFAR_TRAIN], scale)
    check_rows("validation", validation, at_least=0, fewer_than=len(train[1]))
    return hold_out(train, validation) | {"test": read_cifar([files[CIFAR_TEST]], scale)}


def locate_cifar(data_dir: str | Path | None) -> dict[str, Path]:
    """The six files; they come out of one archive, which is not kept."""
    given, files = given_folder(data_dir), (*CIFAR_TRAIN, CIFAR_TEST)
    folder = cache_folder() / CIFAR_FOLDERS[0]
    if given is None and not all(existing(folder, name) for name in files):
        unpacked(CIFAR_ARCHIVE, files, folder, CIFAR_WANTED)
    return files_in(given or cache_folder(), CIFAR_FOLDERS, files, CIFAR_WANTED)


def read_cifar(paths: Sequence[Path], scale: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32), scaled, and labels (N,) of some batches, one after another."""
    records = torch.from_numpy(np.concatenate([read_records(path) for path in paths]))
    means, deviations = (torch.tensor(v).view(3, 1, 1) for v in CIFAR_SCALES[scale])
    inputs = records[:, 1:].reshape(-1, *CIFAR_SHAPE).float()
    return inputs.sub_(means).div_(deviations), records[:, 0].long()


def read_records(path: Path) -> np.ndarray:
    """A batch as bytes (N, 3073): a label, then the red, the green and the blue plane, by rows."""
    content, size = read(path), 1 + math.prod(CIFAR_SHAPE)
    if not content or len(content) % size:
        raise ValueError(
            f"{path}: {len(content)} bytes, not a whole number of images of {size}: damaged, or "
            "not CIFAR-10's binary version; fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    largest = int(records[:, 0].max())
    if largest >= CIFAR_CLASSES:
        raise ValueError(
            f"{path}: label {largest}, but CIFAR-10's are 0 to 9: damaged, or another data set's"
        )
    return records


def read_images(
    source: Source, input_scale: float, validation: int, data_dir: str | Path | None
) -> Splits:
    """The four files of `source` as splits; validation is the last rows of the training set."""
    if not input_scale > 0:
        raise ValueError(f"input_scale={input_scale}: pixels are divided by it; give 255 or 256")
    files = locate(source.data_set, data_dir)
    refuse_other_set(source, files[TEST_LABELS])
    train = read_pair(files[TRAIN_IMAGES], files[TRAIN_LABELS], input_scale)
    test = read_pair(files[TEST_IMAGES], files[TEST_LABELS], input_scale)
    check_rows("validation", validation, at_least=0, fewer_than=len(train[1]))
    return hold_out(train, validation) | {"test": test}


def refuse_other_set(source: Source, labels: Path) -> None:
    """Fashion-MNIST took over MNIST's file names; only their contents tell them apart."""
    first = tuple(read_idx(labels, dimensions=1)[:10].tolist())
    for other in (MNIST, FASHION_MNIST):
        if other is not source and first == other.first_test_labels:
            raise ValueError(
                f"{labels}: these are {other.name}'s labels, not {source.name}'s; "
                f"give the folder of the four {source.name} files"
            )


def read_pair(images: Path, labels: Path, input_scale: float) -> tuple[Tensor, Tensor]:
    """Images (N, 1, H, W) float32 / input_scale, labels (N,) int64."""
    pixels, classes = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if len(pixels) != len(classes):
        raise ValueError(
            f"{images}: {len(pixels)} images, but {labels.name} has {len(classes)} labels; "
            "take both files from the same data set"
        )
    inputs = torch.from_numpy(pixels.astype(np.float32)).unsqueeze(1).div_(input_scale)
    return inputs, torch.from_numpy(classes.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes: 0, 0, type, dimensions, big-endian uint32 sizes, elements."""
    content = read(path)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise ValueError(
            f"{path}: damaged, or no IDX file of unsigned bytes in {dimensions} dimensions: "
            f"it starts with {content[:4].hex() or 'nothing'}, not {magic.hex()}"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise ValueError(f"{path}: truncated: {len(content)} bytes; the header alone is {header}")
    sizes = [int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4)]
    expected = header + math.prod(sizes)
    if len(content) != expected:
        raise ValueError(
            f"{path}: {len(content)} bytes; its header promises {expected} (sizes {sizes}); "
            "fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)
