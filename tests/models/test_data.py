"""The data readers: splits of the digits, files that the test writes itself, downloads it fakes."""

import gzip
import hashlib
import http.client
import io
import lzma
import struct
import sys
import tarfile

import numpy as np
import pytest
import torch

ROWS = {"train": 7, "t10k": 3}


def idx(array):
    """The IDX format, from its definition: 0, 0, 8 (unsigned byte), dimensions, sizes, elements."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    """Four small arrays under the names of the four files."""
    random = np.random.RandomState(0)
    images = {
        f"{split}-images-idx3-ubyte": random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        for split, n in ROWS.items()
    }
    labels = {
        f"{split}-labels-idx1-ubyte": random.randint(0, 10, n).astype(np.uint8)
        for split, n in ROWS.items()
    }
    return images | labels


@pytest.fixture
def folder(arrays, tmp_path):
    """The four files, uncompressed."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))
    return folder


@pytest.fixture
def network(data, files, arrays, monkeypatch):
    """A site that serves the four files, and the addresses it was asked for."""
    served = {f"{name}.gz": gzip.compress(idx(array), mtime=0) for name, array in arrays.items()}
    md5 = {name[:-3]: hashlib.md5(content).hexdigest() for name, content in served.items()}
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(served[url.rpartition("/")[2]])

    monkeypatch.setattr(files, "urlopen", urlopen)
    monkeypatch.setattr(data, "MNIST", data.MNIST._replace(md5=md5))
    return asked


def rows(splits):
    return sorted(row.tobytes() for inputs, _ in splits.values() for row in inputs.numpy())


def same(left, right):
    return left.keys() == right.keys() and all(
        torch.equal(a, b) for name in left for a, b in zip(left[name], right[name], strict=True)
    )


def left_in(folder):
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_splits_of_the_digits_are_disjoint_and_cover_all_1797(data):
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    pixels, labels = load_digits(return_X_y=True)
    splits = data.digits(validation=300)
    sizes = {name: tuple(inputs.shape) for name, (inputs, _) in splits.items()}
    assert sizes == {"train": (1137, 64), "validation": (300, 64), "test": (360, 64)}
    assert rows(splits) == sorted(row.tobytes() for row in (pixels / 16).astype(np.float32))
    label = {row.tobytes(): y for row, y in zip(pixels.astype(np.float32), labels, strict=True)}
    for inputs, targets in splits.values():
        assert inputs.dtype == torch.float32 and targets.dtype == torch.int64
        assert [label[(16 * x).numpy().tobytes()] for x in inputs] == targets.tolist()


def test_a_seed_names_one_split_of_the_digits(data):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert same(data.digits(seed=3, validation=100), data.digits(seed=3, validation=100))
    assert not torch.equal(data.digits(seed=3)["test"][0], data.digits(seed=4)["test"][0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_the_default_split_of_the_digits_never_changes(data):
    digest = hashlib.sha256(data.digits()["test"][1].numpy().astype(np.uint8).tobytes())
    assert digest.hexdigest()[:16] == "4446639e9df96744"


def test_validation_is_taken_from_the_training_digits_alone(data):
    whole, split = data.digits(), data.digits(validation=200)
    assert "validation" not in whole
    assert torch.equal(whole["test"][0], split["test"][0])
    parts = torch.cat([split["train"][0], split["validation"][0]])
    assert torch.equal(parts, whole["train"][0])


@pytest.mark.parametrize(
    "sizes", [{"test": 0}, {"test": 1797}, {"validation": 1437}, {"validation": 0.1}]
)
def test_a_split_that_leaves_nothing_to_train_on_is_refused(data, sizes):
    with pytest.raises(ValueError, match=r"=.*: give a whole number of rows from \d to \d+"):
        data.digits(**sizes)


def test_without_scikit_learn_the_digits_name_the_extra_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'pyro-sws\[digits\]'"):
        data.digits()


def test_idx_files_come_back_as_they_were_written(data, folder, arrays):
    splits = data.mnist(input_scale=256, data_dir=folder)
    assert splits.keys() == {"train", "test"}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        inputs, targets = splits[split]
        assert inputs.shape == (ROWS[prefix], 1, 28, 28)
        assert inputs.dtype == torch.float32 and targets.dtype == torch.int64
        pixels = (inputs * 256).squeeze(1).numpy()  # exact: 256 is a power of two
        assert (pixels == arrays[f"{prefix}-images-idx3-ubyte"]).all()
        assert (targets.numpy() == arrays[f"{prefix}-labels-idx1-ubyte"]).all()


def test_gzipped_files_are_read_like_plain_ones(data, folder):
    plain = data.mnist(data_dir=folder)
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert same(plain, data.mnist(data_dir=folder))


def test_the_default_scale_sends_pixels_into_the_unit_interval(data, folder, arrays):
    inputs, _ = data.mnist(data_dir=folder)["train"]
    expected = arrays["train-images-idx3-ubyte"] / np.float32(255)
    torch.testing.assert_close(inputs.squeeze(1), torch.from_numpy(expected))


def test_validation_is_the_end_of_the_training_set(data, folder):
    whole, split = data.mnist(data_dir=folder), data.mnist(validation=2, data_dir=folder)
    for i in range(2):
        assert torch.equal(split["train"][i], whole["train"][i][:5])
        assert torch.equal(split["validation"][i], whole["train"][i][5:])
        assert torch.equal(split["test"][i], whole["test"][i])


@pytest.mark.parametrize("validation", [7, -1])
def test_a_validation_set_of_all_the_training_images_is_refused(data, folder, validation):
    with pytest.raises(ValueError, match=f"validation={validation}: .* from 0 to 6"):
        data.mnist(validation=validation, data_dir=folder)


@pytest.mark.parametrize("input_scale", [0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(data, folder, input_scale):
    with pytest.raises(ValueError, match=f"input_scale={input_scale}"):
        data.mnist(input_scale=input_scale, data_dir=folder)


@pytest.mark.parametrize("reader, name", [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_a_folder_of_data_sets_holds_each_under_its_name(data, folder, monkeypatch, reader, name):
    folder.rename(folder.with_name(name))
    read = getattr(data, reader)
    by_argument = read(data_dir=folder.parent)
    monkeypatch.setenv("PYRO_SWS_DATA", str(folder.parent))
    assert same(by_argument, read())
    monkeypatch.setenv("PYRO_SWS_DATA", str(folder.with_name(name)))
    assert same(by_argument, read())


def test_the_argument_outranks_the_environment(data, folder, monkeypatch):
    monkeypatch.setenv("PYRO_SWS_DATA", "/nowhere")
    assert len(data.mnist(data_dir=folder)["test"][1]) == 3


def test_mnist_is_not_taken_for_fashion_mnist(data, folder):
    labels = np.array([*data.MNIST.first_test_labels, 0], np.uint8)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(ValueError, match="these are mnist's labels, not fashion-mnist's"):
        data.fashion_mnist(data_dir=folder)


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_given_folder_without_files_is_named_and_nothing_is_downloaded(
    data, tmp_path, monkeypatch, network, by_environment
):
    if by_environment:
        monkeypatch.setenv("PYRO_SWS_DATA", str(tmp_path))
    message = rf"train-images-idx3-ubyte .*{tmp_path}.*{tmp_path}/mnist; set PYRO_SWS_DATA"
    with pytest.raises(FileNotFoundError, match=message):
        data.mnist(data_dir=None if by_environment else tmp_path)
    assert not network


def test_the_one_missing_file_is_named(data, folder):
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no t10k-images-idx3-ubyte"):
        data.mnist(data_dir=folder)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: b"\x00\x00\x0d\x03" + content[4:], "starts with 00000d03, not 00000803"),
        (lambda content: b"", "starts with nothing"),
        (lambda content: content[:10], "truncated: 10 bytes; the header alone is 16"),
        (lambda content: content[:-1], r"5503 bytes; its header promises 5504 \(sizes \[7, 28"),
        (lambda content: content + b"\x00", "5505 bytes; its header promises 5504"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "its header promises"),
    ],
    ids=["type", "empty", "header", "short", "long", "huge"],
)
def test_a_damaged_file_is_named_with_its_damage(data, folder, damage, message):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        data.mnist(data_dir=folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: b"<html>not found</html>",
        lambda content: content[:40] + bytes(byte ^ 0x55 for byte in content[40:80]) + content[80:],
    ],
    ids=["short", "page", "flipped"],
)
def test_a_damaged_gzip_file_is_named(data, folder, damage):
    path = folder / "train-images-idx3-ubyte"
    zipped = path.with_name(f"{path.name}.gz")
    zipped.write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(ValueError, match=f"{zipped}: not a whole gzip file"):
        data.mnist(data_dir=folder)


def test_images_and_labels_must_agree_in_number(data, folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6, np.uint8)))
    with pytest.raises(ValueError, match="7 images, but train-labels-idx1-ubyte has 6 labels"):
        data.mnist(data_dir=folder)


def test_files_are_downloaded_once(data, folder, network, cache):
    first = data.mnist()
    assert len(network) == 4
    assert sorted(left_in(cache / "mnist")) == sorted(
        f"{path.name}.gz" for path in folder.iterdir()
    )
    assert same(first, data.mnist()) and same(first, data.mnist(data_dir=folder))
    assert len(network) == 4


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(data, files, network, monkeypatch, cache):
    monkeypatch.setattr(files, "urlopen", lambda url, timeout: io.BytesIO(b"another file"))
    with pytest.raises(ValueError, match="12 bytes received have md5 .*, not .*nothing was kept"):
        data.mnist()
    assert not left_in(cache / "mnist")


@pytest.mark.parametrize(
    "failure",
    [TimeoutError("timed out"), http.client.IncompleteRead(b"half"), ConnectionResetError("reset")],
    ids=["time-out", "incomplete", "reset"],
)
def test_a_download_that_breaks_off_leaves_no_file(
    data, files, network, monkeypatch, cache, failure
):
    class Broken(io.BytesIO):
        def read(self, *size):
            raise failure

    monkeypatch.setattr(files, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(ConnectionError, match="cannot download https://"):
        data.mnist()
    assert not left_in(cache / "mnist")


def test_a_disk_that_fails_leaves_no_file(data, files, network, monkeypatch, cache):
    def full(source, destination):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        data.mnist()
    assert not left_in(cache / "mnist")


def test_offline_the_message_is_one_line_with_both_remedies(data):
    with pytest.raises(ConnectionError) as caught:
        data.fashion_mnist()
    message = str(caught.value)
    assert "\n" not in message and "no route to host" in message
    assert "set PYRO_SWS_DATA or --data-dir" in message and "connect to the network" in message


def records(folder, *names):
    """Bytes of images and labels, from the format's description: 3,073 bytes an image."""
    content = b"".join((folder / f"{name}.bin").read_bytes() for name in names)
    images = [content[i : i + 3073] for i in range(0, len(content), 3073)]
    return [image[1:] for image in images], [image[0] for image in images]


def test_cifar_images_are_the_five_batches_in_order_plane_by_plane(data, cifar):
    inputs, targets = data.cifar10(data_dir=cifar)["train"]
    images, labels = records(cifar, *(f"data_batch_{i}" for i in range(1, 6)))
    assert inputs.shape == (15, 3, 32, 32) and inputs.dtype == torch.float32
    assert targets.dtype == torch.int64 and targets.tolist() == labels
    for i, channel, row, column in [(0, 0, 0, 0), (3, 1, 0, 5), (14, 2, 31, 31)]:
        pixel = images[i][1024 * channel + 32 * row + column]
        mean, deviation = (125.3, 123.0, 113.9)[channel], (63.0, 62.1, 66.7)[channel]
        expected = torch.tensor((pixel - mean) / deviation)
        torch.testing.assert_close(inputs[i, channel, row, column], expected)


def test_the_test_batch_of_cifar_is_the_test_set_whatever_is_held_out(data, cifar):
    whole, split = data.cifar10(data_dir=cifar), data.cifar10(validation=6, data_dir=cifar)
    assert len(split["train"][1]) == 9 and len(split["validation"][1]) == 6
    assert split["test"][1].tolist() == records(cifar, "test_batch")[1]
    for i in range(2):
        parts = torch.cat([split["train"][i], split["validation"][i]])
        assert torch.equal(parts, whole["train"][i])
        assert torch.equal(split["test"][i], whole["test"][i])


def test_all_training_images_of_cifar_cannot_be_held_out(data, cifar):
    with pytest.raises(ValueError, match="validation=15: .* from 0 to 14"):
        data.cifar10(validation=15, data_dir=cifar)


def test_cifar_is_found_in_a_folder_of_data_sets(data, cifar, monkeypatch):
    by_argument = data.cifar10(data_dir=cifar)
    assert same(by_argument, data.cifar10(data_dir=cifar.parent))
    monkeypatch.setenv("PYRO_SWS_DATA", str(cifar.parent))
    assert same(by_argument, data.cifar10())


def test_cifar_is_scaled_as_the_published_resnet_has_it(data, cifar):
    image = np.concatenate([[9], np.repeat([255, 0, 51], 1024)]).astype(np.uint8)
    (cifar / "test_batch.bin").unlink()
    (cifar / "test_batch.bin.xz").write_bytes(lzma.compress(image.tobytes()))
    images, labels = data.cifar10(scale="resnet_20", data_dir=cifar)["test"]
    assert labels.tolist() == [9]
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(images[0, :, 3, 7], torch.tensor(wanted))
    with pytest.raises(ValueError, match="scale='imagenet': give one of wide_resnet, resnet_20"):
        data.cifar10(scale="imagenet", data_dir=cifar)


def test_without_cifar_the_message_says_where_it_is_to_be_had(data, tmp_path):
    for place, kind in ((tmp_path, FileNotFoundError), (None, ConnectionError)):
        with pytest.raises(kind) as caught:
            data.cifar10(data_dir=place)
        message = str(caught.value)
        assert "the six .bin files" in message and "cifar-10-binary.tar.gz" in message
        assert "not its pickled one" in message


@pytest.fixture
def cifar_archive(data, files, cifar, monkeypatch):
    """The archive of the six files at its address, and how often it was asked for."""
    content, asked = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(cifar, arcname=cifar.name)

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(content.getvalue())

    md5 = hashlib.md5(content.getvalue()).hexdigest()
    monkeypatch.setattr(files, "urlopen", urlopen)
    monkeypatch.setattr(data, "CIFAR_ARCHIVE", data.CIFAR_ARCHIVE._replace(digest=md5))
    return asked


def test_cifar_is_downloaded_once_and_unpacked(data, cifar, cifar_archive, cache):
    first = data.cifar10()
    assert same(first, data.cifar10()) and same(first, data.cifar10(data_dir=cifar))
    assert cifar_archive == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    folder = cache / "cifar-10-batches-bin"
    assert sorted(left_in(folder)) == sorted(path.name for path in cifar.iterdir())


def test_an_archive_that_lacks_a_file_is_told(data, files, cifar, cifar_archive, cache):
    with pytest.raises(ValueError, match="there is no data_batch_6.bin in this archive"):
        files.unpacked(data.CIFAR_ARCHIVE, ["data_batch_6.bin"], cache, "it")
    assert not left_in(cache)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "0 bytes, not a whole number of images of 3073"),
        (b"\x01" * 3072, "3072 bytes, not a whole number"),
        (b"\x80\x02}q\x01" + bytes(5000), "5005 bytes, .* not CIFAR-10's binary version"),
        (b"\x0b" + bytes(3072), "label 11, but CIFAR-10's are 0 to 9"),
    ],
    ids=["empty", "short", "pickled", "label"],
)
def test_a_damaged_batch_of_cifar_is_named_with_its_damage(data, cifar, content, message):
    path = cifar / "data_batch_3.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        data.cifar10(data_dir=cifar)
