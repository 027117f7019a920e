"""The strangers' data: from a folder that is there, and never from the network."""

import pytest


@pytest.fixture
def data(script):
    return script("strangers.data")


def test_a_folder_that_is_not_there_is_asked_for(data, tmp_path, monkeypatch):
    monkeypatch.delenv("PYRO_SWS_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"nothing was given.*PYRO_SWS_DATA.*--data-dir"):
        data.data_folder(None)
    with pytest.raises(FileNotFoundError, match="gone"):
        data.data_folder(tmp_path / "gone")
    monkeypatch.setenv("PYRO_SWS_DATA", str(tmp_path))
    assert data.data_folder(None) == tmp_path


FILES = {
    "mnist": "train-images-idx3-ubyte",
    "protein": "protein.csv",
    "spoken": "free-spoken-digit-dataset.tar",
    "text": "tinyshakespeare.txt",
    "cifar10": "data_batch_1.bin",
}


@pytest.mark.parametrize("reader", FILES)
def test_a_missing_file_is_named(data, tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=rf"no {FILES[reader]} .* in {tmp_path}"):
        getattr(data, reader)(tmp_path)


@pytest.mark.parametrize("reader", FILES)
def test_without_a_folder_nothing_is_downloaded(data, monkeypatch, reader):
    monkeypatch.delenv("PYRO_SWS_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="no folder with the data"):
        getattr(data, reader)(None)


@pytest.mark.parametrize("reader", ["digits", "breast_cancer", "diabetes"])
def test_what_comes_with_scikit_learn_has_examples_held_out(data, reader):
    assert getattr(data, reader)(None).keys() == {"train", "validation", "test"}
