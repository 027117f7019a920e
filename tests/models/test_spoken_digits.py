"""Spoken digits: spectrograms of tones, and an archive of the same format that is made here."""

import io
import math
import tarfile
import wave

import numpy as np
import pytest
import torch

NUMBERS = 0, 4, 5, 9, 10, 49


@pytest.fixture
def spoken(load_model):
    return load_model("spoken_digits")


def tone(hertz, seconds=0.5):
    return 0.5 * np.sin(2 * math.pi * hertz * np.arange(int(8000 * seconds)) / 8000)


def wav(sound, rate=8000):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(sound * 2**15).astype("<i2").tobytes())
    return content.getvalue()


def archive(top="", order=NUMBERS, compression=":gz"):
    """Six recordings of one speaker and digit, as bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w{compression}") as file:
        for number in order:
            sound = wav(tone(200 + 10 * number, 0.1))
            info = tarfile.TarInfo(f"{top}recordings/7_theo_{number}.wav")
            info.size = len(sound)
            file.addfile(info, io.BytesIO(sound))
    return content.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "speech").mkdir()
    path = tmp_path / "speech" / "free-spoken-digit-dataset.tar.gz"
    path.write_bytes(archive("free-spoken-digit-dataset/"))
    return tmp_path


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_a_tone_is_loudest_in_the_band_around_it(spoken, hertz):
    # Bands are evenly wide on the mel scale of O'Shaughnessy, m = 2595 log10(1 + f / 700).
    mels = 2595 * math.log10(1 + hertz / 700)
    low, high = (2595 * math.log10(1 + f / 700) for f in (60, 4000))
    place = (mels - low) / (high - low) * 41 - 1
    loudest = spoken.log_mel(tone(hertz)).mean(1).argmax()
    assert abs(loudest - place) <= 1


def test_sounds_are_cut_or_padded_to_one_length(spoken):
    assert spoken.log_mel(tone(500, 0.1)).shape == spoken.log_mel(tone(500, 3)).shape == (40, 64)
    silent = math.log(spoken.FLOOR)
    np.testing.assert_allclose(spoken.log_mel(tone(500, 0.1))[:, -1], silent)


def test_samples_are_those_of_the_file(spoken):
    sound = tone(440, 0.05)
    np.testing.assert_allclose(spoken.samples(wav(sound)), sound, atol=2**-15)
    with pytest.raises(ValueError, match="16000"):
        spoken.samples(wav(sound, rate=16000))


@pytest.mark.parametrize(("validation", "sizes"), [(5, (2, 2, 2)), (0, (4, 0, 2)), (6, (1, 3, 2))])
def test_recordings_are_split_by_their_numbers(spoken, folder, validation, sizes):
    splits = spoken.spoken_digits(validation, data_dir=folder)
    there = dict(zip(("train", "validation", "test"), sizes, strict=True))
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        name: size for name, size in there.items() if size
    }
    features, labels = splits["train"]
    assert set(labels.tolist()) == {7} and features.shape[1:] == (40, 64)
    torch.testing.assert_close(features.mean((0, 2)), torch.zeros(40), atol=1e-4, rtol=0)


@pytest.mark.parametrize("validation", [45, -1, 0.1])
def test_all_recordings_cannot_be_held_out(spoken, folder, validation):
    with pytest.raises(ValueError, match=rf"validation={validation}: give 0 to 44"):
        spoken.spoken_digits(validation, data_dir=folder)


def test_an_archive_without_recordings_is_told(spoken, folder):
    path = folder / "speech" / "free-spoken-digit-dataset.tar.gz"
    path.write_bytes(archive(order=()))
    with pytest.raises(ValueError, match=r"\.tar\.gz: no recordings/DIGIT_SPEAKER_NUMBER\.wav"):
        spoken.spoken_digits(data_dir=folder)


def test_the_digest_is_of_the_recordings_however_they_are_packed(spoken):
    digests = {
        spoken.digest_of_recordings(archive(top, order, compression))
        for top, order, compression in [
            ("", NUMBERS, ""),
            ("free-spoken-digit-dataset-1.0.10/", NUMBERS[::-1], ":gz"),
            ("x/", NUMBERS, ":xz"),
        ]
    }
    assert len(digests) == 1
    assert spoken.digest_of_recordings(archive(order=NUMBERS[1:])) not in digests


def test_the_archive_is_downloaded_and_stays_packed(spoken, files, monkeypatch, cache):
    content = archive("free-spoken-digit-dataset-1.0.10/")
    ((name, download),) = spoken.ARCHIVE.files.items()
    right = download._replace(digest=spoken.digest_of_recordings(content))
    monkeypatch.setattr(files, "urlopen", lambda url, timeout: io.BytesIO(content))
    with pytest.raises(ValueError, match="have digest_of_recordings"):
        spoken.spoken_digits()
    monkeypatch.setattr(spoken, "ARCHIVE", spoken.ARCHIVE._replace(files={name: right}))
    assert len(spoken.spoken_digits()["test"][1]) == 2
    assert [path.name for path in (cache / "speech").iterdir()] == [f"{name}.gz"]
