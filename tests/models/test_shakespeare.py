"""Windows of text: what follows what, and how much of it is held out."""

import string

import numpy as np
import pytest
import torch

LETTERS = (string.ascii_letters + string.digits + ".,;")[:65]


@pytest.fixture
def shakespeare(load_model):
    return load_model("shakespeare")


@pytest.fixture
def folder(tmp_path):
    """A text of as many kinds of characters, 6,500 in all."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinyshakespeare.txt").write_text(LETTERS * 100)
    return tmp_path


def test_targets_are_the_characters_that_come_next(shakespeare):
    inputs, targets = shakespeare.windows(np.arange(2 * 64 + 5))
    assert inputs.flatten().tolist() == list(range(128))
    assert targets.flatten().tolist() == list(range(1, 129))


def test_codes_are_ranks_among_the_characters(shakespeare, folder):
    inputs, _ = shakespeare.shakespeare(data_dir=folder, window=65)["train"]
    ranks = [sorted(LETTERS).index(letter) for letter in LETTERS]
    assert inputs.dtype == torch.int64 and inputs[0].tolist() == ranks


def test_the_last_part_of_the_text_is_the_test_data(shakespeare, folder):
    splits = shakespeare.shakespeare(test=0.1, validation=0.2, window=10, data_dir=folder)
    # A part of n characters has (n - 1) // 10 windows, each with the character after it.
    assert {name: len(x) for name, (x, _) in splits.items()} == {
        "train": 454,
        "validation": 129,
        "test": 64,
    }
    whole = [sorted(LETTERS).index(letter) for letter in LETTERS * 100]
    assert splits["test"][0].flatten().tolist() == whole[5850 : 5850 + 640]
    assert "validation" not in shakespeare.shakespeare(validation=0, data_dir=folder)


@pytest.mark.parametrize("shares", [{"test": 0.0}, {"test": 0.6, "validation": 0.4}, {"test": 1}])
def test_shares_that_leave_nothing_are_refused(shakespeare, folder, shares):
    with pytest.raises(ValueError, match="give shares of the text"):
        shakespeare.shakespeare(**shares, data_dir=folder)


@pytest.mark.parametrize("window", [0, 400])
def test_a_window_that_a_part_is_too_short_for_is_refused(shakespeare, folder, window):
    with pytest.raises(ValueError, match=rf"window={window}: give 1 to 32\d"):
        shakespeare.shakespeare(window=window, data_dir=folder)


def test_another_text_is_refused(shakespeare, folder):
    (folder / "text" / "tinyshakespeare.txt").write_text("to be, or not to be")
    with pytest.raises(ValueError, match=r"8 distinct characters, not 65"):
        shakespeare.shakespeare(data_dir=folder)


def test_the_text_is_asked_for_where_it_is_to_be_had(shakespeare, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no tinyshakespeare\.txt .* in {tmp_path}"):
        shakespeare.shakespeare(data_dir=tmp_path)
    with pytest.raises(ConnectionError, match=r"char-rnn/.*/tinyshakespeare/input\.txt"):
        shakespeare.shakespeare()
