"""Spoken digits as log-mel spectrograms. Numpy and torch.

The Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0), version 1.0.10: six speakers, ten
digits, 50 recordings of each. files.py says where it is looked for; it stays packed.
"""

import hashlib
import io
import re
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .files import DAMAGED, UNPACKED, DataSet, Download, locate
from .splits import Splits

BANDS, FRAMES = 40, 64  # of a spectrogram
RATE = 8000  # samples a second
LENGTH, HOP = 256, 128  # samples of a frame, and from one frame to the next
LOWEST, HIGHEST = 60.0, 4000.0  # Hz, of the mel bands
FLOOR = 1e-6  # of a band's power, before the logarithm
RECORDINGS = 50  # of a speaker and digit
TEST = range(5)  # those that are test data, as the authors say
RECORDING = re.compile(r"recordings/(\d)_(\w+)_(\d+)\.wav$")


def digest_of_recordings(content: bytes) -> str:
    """sha256 of an archive's recordings, in order of name: GitHub may pack them anew."""
    whole = hashlib.sha256()
    for name, recording in sorted((m[0], found) for m, found in recordings(io.BytesIO(content))):
        file = name.rpartition("/")[2].encode()
        whole.update(file + b"\0" + hashlib.sha256(recording).digest())
    return whole.hexdigest()


FILE = "free-spoken-digit-dataset.tar"
ARCHIVE = DataSet(
    f"{FILE}.gz, the Free Spoken Digit Dataset",
    ("speech",),
    {
        FILE: Download(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/"
            "v1.0.10.tar.gz",
            "a2e8a660492f28d9eed6270b290d26cbc5c81d6077ce87d3c0ad5adf4d4ee696",
            digest_of_recordings,
        )
    },
)


def spoken_digits(validation: int = 5, data_dir: str | Path | None = None) -> Splits:
    """3,000 recordings as (N, BANDS, FRAMES), each band standardised by what is trained on.

    The test data is the official one, recordings 0 to 4 of each speaker and digit; ``validation``
    is how many of each, from the fifth on, are held out of the others. Raises ValueError for as
    many as there are, and for an archive without recordings.
    """
    if not isinstance(validation, int) or not 0 <= validation < RECORDINGS - len(TEST):
        most = RECORDINGS - len(TEST) - 1
        raise ValueError(
            f"validation={validation!r}: give 0 to {most} recordings of each speaker and digit"
        )
    path = locate(ARCHIVE, data_dir)[FILE]
    found = [(log_mel(samples(sound)), int(m[1]), int(m[3])) for m, sound in recordings(path)]
    if not found:
        raise ValueError(f"{path}: no recordings/DIGIT_SPEAKER_NUMBER.wav in it: another archive?")
    spectrograms, digits, numbers = zip(*found, strict=True)
    features, labels = np.stack(spectrograms), np.array(digits)
    held_out = range(len(TEST), len(TEST) + validation)
    parts = {"test": np.isin(numbers, TEST), "validation": np.isin(numbers, held_out)}
    parts["train"] = ~(parts["test"] | parts["validation"])
    train = features[parts["train"]]
    mean, deviation = (f(train, (0, 2), keepdims=True) for f in (np.mean, np.std))
    features = ((features - mean) / deviation).astype(np.float32)
    return {
        name: (torch.from_numpy(features[part]), torch.from_numpy(labels[part]))
        for name, part in parts.items()
        if part.any()
    }


def recordings(archive: Path | io.BytesIO) -> Iterator[tuple[re.Match, bytes]]:
    """Each recording of an archive: what its name says, and its wav file's content.

    Nothing is written to any path that the archive names. Raises ValueError for a damaged archive,
    and for one that unpacks to more than any of the data set.
    """
    given = {"name": archive} if isinstance(archive, Path) else {"fileobj": archive}
    try:
        with tarfile.open(**given) as opened:
            for member in opened:
                if member.offset_data + member.size > UNPACKED:
                    raise ValueError(f"it unpacks to more than {UNPACKED} bytes")
                named = RECORDING.search(member.name)
                if named and member.isreg() and (file := opened.extractfile(member)) is not None:
                    yield named, file.read()
    except (tarfile.TarError, *DAMAGED) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__).rstrip(":")
        raise ValueError(f"not a whole archive of recordings: {told}; fetch it again") from None


def samples(content: bytes) -> np.ndarray:
    """A wav file's samples in [-1, 1). ValueError unless they are RATE a second, mono, 16 bits."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            found = file.getframerate(), file.getnchannels(), file.getsampwidth()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # the last is the chunk reader's
        raise ValueError(f"a recording is no whole wav file: {error!r}") from None
    if found != (RATE, 1, 2):
        raise ValueError(f"a recording has (Hz, channels, bytes) {found}, not {(RATE, 1, 2)}")
    return np.frombuffer(frames, "<i2") / 2.0**15


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
