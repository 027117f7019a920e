"""Training data in portions: few large batches are cut, whoever hands them out."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pyro_sws as sws
from pyro_sws.compression.walk.portions import FEWEST, Portion, cut

INPUTS, TARGETS = torch.arange(400.0)[:, None], torch.arange(400)
PAIR = (INPUTS, TARGETS)


def examples(batches):
    return sorted(int(t) for _, targets in batches for t in targets)


@pytest.mark.parametrize(
    "given",
    [[PAIR], sws.Batches(*PAIR, 400), DataLoader(TensorDataset(*PAIR), 400, shuffle=True)],
    ids=["list", "batches", "loader"],
)
def test_one_batch_of_all_data_is_many_steps(given):
    found = cut(given)
    assert len(found) == FEWEST and examples(found) == list(range(400))


def test_batches_that_are_cut_keep_their_augmentation():
    given = sws.Batches(*PAIR, 400, augment=lambda x: x + 1000)
    assert all((inputs >= 1000).all() for inputs, _ in cut(given))
    assert examples(cut(given)) == list(range(400)) and given.size == 400


class Drawn(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.randn(2), index


@pytest.mark.parametrize(
    "given",
    [
        DataLoader(Drawn(), 40),  # each pass changes its examples
        sws.Batches(*PAIR, 10),
        [(INPUTS[i : i + 10], TARGETS[i : i + 10]) for i in range(0, 400, 10)],
    ],
    ids=["drawn anew", "batches", "list"],
)
def test_enough_batches_and_changing_ones_stay_as_they_are(given):
    assert cut(given) is given


def test_batches_of_other_shapes_cannot_be_cut():
    ragged = [(torch.randn(2, n), torch.arange(2)) for n in (3, 4)]
    assert cut(ragged) is ragged


def test_a_batch_is_cut_with_its_targets():
    assert all((inputs[:, 0] == targets).all() for inputs, targets in cut([PAIR]))


def test_portions_go_on_where_the_last_one_ended():
    batches = [(torch.tensor([i]), torch.tensor([i])) for i in range(5)]
    portion, seen = Portion(batches), []
    for size in (2, 4, 6):
        seen.append([int(inputs) for inputs, _ in portion.of(size)])
        assert len(portion) == size
    assert seen == [[0, 1], [2, 3, 4, 0], [1, 2, 3, 4, 0, 1]]
