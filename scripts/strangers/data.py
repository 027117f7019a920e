"""Data that models/data.py lacks: tables, spoken digits, text, CIFAR-10 as published nets take it.

Every reader is given the folder with the data and returns {"train", "test", "validation"} of
(inputs, targets). Validation is held out of the training data, and missing where ``validation`` is
0. Nothing is downloaded or unpacked to disk. Inputs, and targets that are numbers, are
standardised by the training data's means and deviations.
"""

import gzip
import io
import lzma
import os
import re
import tarfile
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.data import CIFAR_SHAPE, CIFAR_TEST, CIFAR_TRAIN, Splits, hold_out
from scripts.strangers.structures import BANDS, CHARACTERS, FRAMES, WINDOW

RATE = 8000  # samples a second
LENGTH, HOP = 256, 128  # samples of a frame, and from one frame to the next
LOWEST, HIGHEST = 60.0, 4000.0  # Hz, of the mel bands
FLOOR = 1e-6  # of a band's power, before the logarithm
TEST_RECORDINGS, HELD_OUT_RECORDINGS = range(5), range(5, 10)  # of 50 a speaker and digit
RECORDING = re.compile(r"recordings/(\d)_(\w+)_(\d+)\.wav$")
TEXT_SHARES = 0.90, 0.05  # of the text: training, validation; the rest is test
# Of pixels in [0, 1], as the published ResNet-20 has them.
CIFAR_MEANS, CIFAR_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_FOLDERS = "cifar-10-batches-bin", "cifar10"
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}


def data_folder(given: Path | None) -> Path:
    """The folder with the data: as given, else $PYRO_SWS_DATA. FileNotFoundError for none."""
    named = given or os.environ.get("PYRO_SWS_DATA")
    if not named or not Path(named).expanduser().is_dir():
        raise FileNotFoundError(
            f"no folder with the data: {named or 'nothing was given'}; set PYRO_SWS_DATA or "
            "--data-dir to the folder that has mnist/, speech/, text/, uci/, ..."
        )
    return Path(named).expanduser()


def breast_cancer(folder: Path | None) -> Splits:
    """569 tumours as (N, 30), malignant or benign; comes with scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    return _shuffled(inputs, labels.astype(np.int64), test=114, validation=91)


def wine(folder: Path | None) -> Splits:
    """178 wines as (N, 13), of three cultivars; comes with scikit-learn."""
    from sklearn.datasets import load_wine

    inputs, labels = load_wine(return_X_y=True)
    return _shuffled(inputs, labels.astype(np.int64), test=58, validation=0)


def diabetes(folder: Path | None) -> Splits:
    """442 patients as (N, 10), and how far the disease went in a year; with scikit-learn."""
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return _shuffled(inputs, targets[:, None], test=88, validation=71)


def protein(folder: Path | None) -> Splits:
    """45,730 proteins as (N, 9), and a distance; the first of the ten published splits."""
    folder = data_folder(folder)
    rows = np.loadtxt(io.BytesIO(read(folder / "uci", "protein.csv")), delimiter=",")
    masks = np.loadtxt(io.BytesIO(read(folder / "uci", "protein_test_mask.csv")), delimiter=",")
    if len(rows) != len(masks):
        raise ValueError(
            f"{folder / 'uci'}: protein.csv has {len(rows)} rows, and its mask {len(masks)}; take "
            "both from the same source"
        )
    # RandomState's stream is frozen for ever: the split is the same with every numpy.
    order = np.random.RandomState(0).permutation(len(rows))
    rows, in_test = rows[order], masks[order, 0] == 1
    inputs, targets = rows[:, :-1], rows[:, -1:]
    train, test = ((inputs[part], targets[part]) for part in (~in_test, in_test))
    return _standardised(train, test, validation=4_000)


def spoken_digits(folder: Path | None) -> Splits:
    """3,000 recordings as log-mel spectrograms (N, BANDS, FRAMES); the official test split."""
    features, labels, numbers = recordings(data_folder(folder) / "speech")
    parts = {
        "test": np.isin(numbers, TEST_RECORDINGS),
        "validation": np.isin(numbers, HELD_OUT_RECORDINGS),
    }
    parts["train"] = ~(parts["test"] | parts["validation"])
    train = features[parts["train"]]
    mean, deviation = (f(train, (0, 2), keepdims=True) for f in (np.mean, np.std))
    features = ((features - mean) / deviation).astype(np.float32)
    return {
        name: (torch.from_numpy(features[part]), torch.from_numpy(labels[part]))
        for name, part in parts.items()
    }


def recordings(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, BANDS, FRAMES), digits (N,) and each recording's number (N,) of the archive."""
    path, rows = existing(folder, "free-spoken-digit-dataset.tar"), []
    with tarfile.open(path) as archive:
        for member in archive:
            if named := RECORDING.search(member.name):
                file = archive.extractfile(member)
                if file is None:
                    raise ValueError(f"{path}: {member.name} is no file; fetch the archive again")
                rows.append((log_mel(samples(file.read())), int(named[1]), int(named[3])))
    if not rows:
        raise ValueError(f"{path}: no recordings/DIGIT_SPEAKER_NUMBER.wav in it: another archive?")
    features, labels, numbers = zip(*rows, strict=True)
    return np.stack(features), np.array(labels), np.array(numbers)


def samples(content: bytes) -> np.ndarray:
    """A wav file's samples in [-1, 1). ValueError unless they are RATE a second, mono, 16 bits."""
    with wave.open(io.BytesIO(content)) as file:
        found = file.getframerate(), file.getnchannels(), file.getsampwidth()
        if found != (RATE, 1, 2):
            raise ValueError(f"a recording has (Hz, channels, bytes) {found}, not {(RATE, 1, 2)}")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2.0**15


def log_mel(sound: np.ndarray) -> np.ndarray:
    """Log power in mel bands, (BANDS, FRAMES): what is longer is cut, what is shorter padded."""
    wanted = LENGTH + (FRAMES - 1) * HOP
    padded = np.pad(sound[:wanted], (0, max(0, wanted - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, LENGTH)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(LENGTH))) ** 2
    return np.log(power @ mel_bands().T + FLOOR).T


def mel_bands() -> np.ndarray:
    """Triangles over the frequencies of a frame's spectrum, (BANDS, LENGTH / 2 + 1)."""
    low, high = 2595 * np.log10(1 + np.array([LOWEST, HIGHEST]) / 700)
    corners = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)  # Hz
    frequencies = np.fft.rfftfreq(LENGTH, 1 / RATE)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (
        (frequencies - left) / (middle - left),
        (right - frequencies) / (right - middle),
    )
    return np.maximum(0.0, np.minimum(rising, falling))


def shakespeare(folder: Path | None) -> Splits:
    """Windows of text (N, WINDOW) int64, and each character's next one, of the same shape."""
    text = read(data_folder(folder) / "text", "tinyshakespeare.txt").decode()
    known = sorted(set(text))
    if len(known) != CHARACTERS:
        raise ValueError(
            f"tinyshakespeare.txt has {len(known)} distinct characters, not {CHARACTERS}: another "
            "text, or damaged; fetch it again"
        )
    codes = {character: code for code, character in enumerate(known)}
    coded = np.array([codes[character] for character in text])
    first = int(TEXT_SHARES[0] * len(coded))
    second = first + int(TEXT_SHARES[1] * len(coded))
    parts = {"train": coded[:first], "validation": coded[first:second], "test": coded[second:]}
    return {name: windows(part) for name, part in parts.items()}


def windows(codes: np.ndarray) -> tuple[Tensor, Tensor]:
    """Windows side by side, without overlap, and the same one character later."""
    count = (len(codes) - 1) // WINDOW
    inputs, targets = (codes[i : i + count * WINDOW].reshape(count, WINDOW) for i in (0, 1))
    return torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())


def cifar10(folder: Path | None) -> Splits:
    """50,000 + 10,000 images as (N, 3, 32, 32); files as they are, or packed with gzip or xz."""
    folder = data_folder(folder)
    place = next((p for name in CIFAR_FOLDERS if (p := folder / name).is_dir()), folder)
    return {"train": images(place, CIFAR_TRAIN), "test": images(place, [CIFAR_TEST])}


def images(folder: Path, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of batches in the binary version, one after another."""
    content, size = b"".join(read(folder, name) for name in names), 1 + int(np.prod(CIFAR_SHAPE))
    if len(content) % size:
        raise ValueError(
            f"{folder}: {', '.join(names)} have {len(content)} bytes, not a whole number of images "
            f"of {size}; fetch them again"
        )
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, size).copy())
    means, deviations = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR_MEANS, CIFAR_DEVIATIONS))
    inputs = records[:, 1:].reshape(-1, *CIFAR_SHAPE).float().div_(255)
    return inputs.sub_(means).div_(deviations), records[:, 0].long()


def existing(folder: Path, name: str) -> Path:
    """The file, as it is or packed. FileNotFoundError that says which one is missing."""
    for suffix in UNPACK:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise FileNotFoundError(
        f"no {name} ({', '.join(s for s in UNPACK if s)} will do) in {folder}; put it there"
    )


def read(folder: Path, name: str) -> bytes:
    """A file's content, unpacked. ValueError where it is damaged."""
    path = existing(folder, name)
    unpack = UNPACK[path.name.removeprefix(name)]
    try:
        return unpack(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(
            f"{path}: not a whole {path.suffix} file ({error}); fetch it again"
        ) from None


def _shuffled(inputs: np.ndarray, targets: np.ndarray, test: int, validation: int) -> Splits:
    order = np.random.RandomState(0).permutation(len(inputs))
    inputs, targets = inputs[order], targets[order]
    rest = inputs[test:], targets[test:]
    return _standardised(rest, (inputs[:test], targets[:test]), validation)


def _standardised(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], validation: int
) -> Splits:
    """By what is left of the training rows when the last ones are held out."""
    scaled = []
    for fitted, other in zip(train, test, strict=True):
        own = fitted[: len(fitted) - validation]
        mean, deviation = own.mean(0), own.std(0)
        labels = np.issubdtype(fitted.dtype, np.integer)
        scaled.append([p if labels else (p - mean) / deviation for p in (fitted, other)])
    parts = [tuple(_tensor(part) for part in pair) for pair in zip(*scaled, strict=True)]
    (inputs, targets), (test_inputs, test_targets) = parts
    return hold_out((inputs, targets), validation) | {"test": (test_inputs, test_targets)}


def _tensor(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.float() if tensor.is_floating_point() else tensor
