"""Readers of the strangers' data: on small files of the same formats, made here."""

import gzip
import io
import lzma
import math
import tarfile
import wave

import numpy as np
import pytest
import torch


@pytest.fixture
def data(script):
    return script("strangers.data")


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


# The folder, and files in it.


def test_a_folder_that_is_not_there_is_asked_for(data, tmp_path, monkeypatch):
    monkeypatch.delenv("PYRO_SWS_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"nothing was given.*PYRO_SWS_DATA.*--data-dir"):
        data.data_folder(None)
    with pytest.raises(FileNotFoundError, match="gone"):
        data.data_folder(tmp_path / "gone")
    monkeypatch.setenv("PYRO_SWS_DATA", str(tmp_path))
    assert data.data_folder(None) == tmp_path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_file_is_read_however_it_is_packed(data, tmp_path, pack):
    suffix = {bytes: "", gzip.compress: ".gz", lzma.compress: ".xz"}[pack]
    (tmp_path / f"a.bin{suffix}").write_bytes(pack(b"all of it"))
    assert data.read(tmp_path, "a.bin") == b"all of it"


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_file_that_is_cut_short_is_named(data, tmp_path, suffix, pack):
    (tmp_path / f"a{suffix}").write_bytes(pack(bytes(range(256)) * 9)[:-20])
    with pytest.raises(ValueError, match=rf"a\{suffix}: not a whole .*fetch it again"):
        data.read(tmp_path, "a")


READERS = {
    "protein": "protein.csv",
    "spoken_digits": "free-spoken-digit-dataset.tar",
    "shakespeare": "tinyshakespeare.txt",
    "cifar10": "data_batch_1.bin",
}


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named(data, tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=rf"no {READERS[reader]} .* in {tmp_path}"):
        getattr(data, reader)(tmp_path)


# Tables.


@pytest.mark.parametrize("reader", ["breast_cancer", "diabetes"])
def test_a_table_is_standardised_by_what_is_trained_on(data, reader):
    splits = getattr(data, reader)(None)
    inputs, targets = splits["train"]
    numbers = [inputs] if targets.dtype == torch.int64 else [inputs, targets]
    for values in numbers:
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        deviations = values.std(0, correction=0)
        torch.testing.assert_close(deviations, torch.ones(values.shape[1]), atol=1e-5, rtol=0)
    sizes = {name: len(inputs) for name, (inputs, _) in splits.items()}
    wanted = {"breast_cancer": (364, 91, 114), "diabetes": (283, 71, 88)}[reader]
    assert sizes == dict(zip(("train", "validation", "test"), wanted, strict=True))
    rows = torch.cat([inputs for inputs, _ in splits.values()])
    assert len(rows.unique(dim=0)) == len(rows)  # each once


def test_protein_is_split_as_the_masks_first_column_says(data, tmp_path):
    folder, n = tmp_path / "uci", 5000
    folder.mkdir()
    rows = np.arange(n)[:, None] * np.arange(1, 11)  # each column says which row it is
    masks = np.zeros((n, 10), int)
    masks[::10, 0] = masks[:, 1] = 1
    for name, table in {"protein": rows, "protein_test_mask": masks}.items():
        text = "\n".join(",".join(map(str, row)) for row in table)
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    splits = data.protein(tmp_path)
    assert [len(splits[name][0]) for name in ("train", "validation", "test")] == [500, 4000, 500]
    inputs = torch.cat([splits[name][0][:, 0] for name in ("test", "validation", "train")])
    rank = inputs.argsort().argsort()  # scaling keeps the order
    assert sorted(rank[:500].tolist()) == list(range(0, n, 10))
    assert rank[500:].tolist() != sorted(rank[500:].tolist())  # what is held out is a sample
    assert all(torch.allclose(inputs[:, :1], targets) for inputs, targets in splits.values())


# Sounds.


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_a_tone_is_loudest_in_the_band_around_it(data, hertz):
    # Bands are evenly wide on the mel scale of O'Shaughnessy, m = 2595 log10(1 + f / 700).
    mels = 2595 * math.log10(1 + hertz / 700)
    low, high = (2595 * math.log10(1 + f / 700) for f in (60, 4000))
    place = (mels - low) / (high - low) * 41 - 1
    loudest = data.log_mel(tone(hertz)).mean(1).argmax()
    assert abs(loudest - place) <= 1


def test_sounds_are_cut_or_padded_to_one_length(data):
    assert data.log_mel(tone(500, 0.1)).shape == data.log_mel(tone(500, 3)).shape == (40, 64)
    silent = math.log(data.FLOOR)
    np.testing.assert_allclose(data.log_mel(tone(500, 0.1))[:, -1], silent)


def test_samples_are_those_of_the_file(data):
    sound = tone(440, 0.05)
    np.testing.assert_allclose(data.samples(wav(sound)), sound, atol=2**-15)
    with pytest.raises(ValueError, match="16000"):
        data.samples(wav(sound, rate=16000))


def test_recordings_are_split_by_their_numbers(data, tmp_path):
    (tmp_path / "speech").mkdir()
    archive = tmp_path / "speech" / "free-spoken-digit-dataset.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for number in (0, 4, 5, 9, 10, 49):
            content = wav(tone(200 + 10 * number, 0.1))
            info = tarfile.TarInfo(f"free-spoken-digit-dataset/recordings/7_theo_{number}.wav")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    splits = data.spoken_digits(tmp_path)
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        "test": 2,
        "validation": 2,
        "train": 2,
    }
    features, labels = splits["train"]
    assert labels.tolist() == [7, 7] and features.shape == (2, 40, 64)
    torch.testing.assert_close(features.mean((0, 2)), torch.zeros(40), atol=1e-4, rtol=0)


# Text and images.


def test_targets_are_the_characters_that_come_next(data):
    inputs, targets = data.windows(np.arange(2 * 64 + 5))
    assert inputs.flatten().tolist() == list(range(128))
    assert targets.flatten().tolist() == list(range(1, 129))


def test_another_text_is_refused(data, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinyshakespeare.txt").write_text("to be, or not to be")
    with pytest.raises(ValueError, match=r"8 distinct characters, not 65"):
        data.shakespeare(tmp_path)


def test_images_are_scaled_as_the_published_network_has_them(data, tmp_path):
    (tmp_path / "cifar10").mkdir()
    for i, name in enumerate([*data.CIFAR_TRAIN, data.CIFAR_TEST]):
        image = np.concatenate([[i], np.repeat([255, 0, 51], 1024)]).astype(np.uint8)
        (tmp_path / "cifar10" / f"{name}.xz").write_bytes(lzma.compress(image.tobytes()))
    splits = data.cifar10(tmp_path)
    images, labels = splits["train"]
    assert labels.tolist() == [0, 1, 2, 3, 4] and splits["test"][1].tolist() == [5]
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(images[0, :, 3, 7], torch.tensor(wanted))


def test_images_that_are_cut_short_are_refused(data, tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 4000)
    with pytest.raises(ValueError, match=r"test_batch.bin have 4000 bytes, .*3073"):
        data.images(tmp_path, ["test_batch.bin"])


def test_wine_is_standardised_by_all_its_training_rows(script):
    splits = script("strangers.data").wine(None)
    inputs, targets = splits["train"]
    assert splits.keys() == {"train", "test"} and set(targets.tolist()) == {0, 1, 2}
    assert inputs.mean(0).abs().max() < 1e-5 and (inputs.std(0) - 1).abs().max() < 0.01
