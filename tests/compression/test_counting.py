"""Draws are not examples: N, the labels' bits and the certificate are of distinct examples."""

import math
import random

import numpy as np
import pytest
import torch
from problems import classifier
from small_recipe import POINTS, write_recipe
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import pyro_sws as sws
from pyro_sws.compression.survey import survey
from pyro_sws.diagnosis.subject import subject_of
from pyro_sws.inference.examples import Once
from pyro_sws.inference.loaders import augments
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

pytestmark = pytest.mark.integration

NET, INPUTS, TARGETS = classifier()
DATA = TensorDataset(INPUTS, TARGETS)
LIST = list(zip(INPUTS.split(20), TARGETS.split(20), strict=True))


PARTS = [Subset(DATA, range(20)), Subset(DATA, range(10, 30))]


class Stream(IterableDataset):
    """All 60 examples, whichever worker asks; each may be changed."""

    def __init__(self, change=lambda inputs: inputs):
        self.change = change

    def __iter__(self):
        return ((self.change(inputs), target) for inputs, target in DATA)


class Changed:
    """Batches of one's own, whose inputs are drawn anew in each pass."""

    def __iter__(self):
        return ((inputs + torch.rand(len(inputs), 1), targets) for inputs, targets in LIST)


class Drawn:
    """A pass is 600 draws with replacement, in batches of 20."""

    def __iter__(self):
        for _ in range(30):
            index = torch.randint(60, (20,))
            yield INPUTS[index], TARGETS[index]


class Own(torch.utils.data.Sampler):
    def __iter__(self):
        return iter(torch.randint(60, (600,)).tolist())

    def __len__(self):
        return 600


def loader(sampler=None, data=DATA, **more):
    return DataLoader(data, more.pop("batch_size", 16), sampler=sampler, **more)


def weights(zeros=0):
    return [0.0] * zeros + [1.0 + i for i in range(60 - zeros)]


# All of these draw from the 60 examples, or from as many of them as the number says.
DRAWN = {
    "weighted": (lambda: loader(WeightedRandomSampler(weights(), 3000)), 60),
    "weighted, some never": (lambda: loader(WeightedRandomSampler(weights(10), 3000)), 50),
    "weighted, few draws": (lambda: loader(WeightedRandomSampler(weights(), 20)), 60),
    "replacement": (lambda: loader(RandomSampler(DATA, replacement=True)), 60),
    "replacement, many": (lambda: loader(RandomSampler(DATA, True, 3000)), 60),
    "no replacement, several rounds": (lambda: loader(RandomSampler(DATA, num_samples=150)), 60),
    "part of a round": (lambda: loader(RandomSampler(DATA, num_samples=30)), 60),
    "a subset": (lambda: loader(SubsetRandomSampler(range(40))), 40),
    "a subset, repeated": (lambda: loader(SubsetRandomSampler([0, 0, 1, 2, 2])), 3),
    "batches of draws": (
        lambda: DataLoader(
            DATA, batch_sampler=BatchSampler(RandomSampler(DATA, True, 600), 7, True)
        ),
        60,
    ),
    "the last batch left out, shuffled": (lambda: loader(shuffle=True, drop_last=True), 60),
    "the last batch left out, in order": (lambda: loader(drop_last=True), 48),
    "indices, some twice": (lambda: loader([5, 6, 5, 7, 6, 5]), 3),
    "a dataset's subset, some twice": (lambda: loader(data=Subset(DATA, [1, 2, 3, 1, 1])), 3),
    "a subset of a subset, some twice": (
        lambda: loader(data=Subset(Subset(DATA, [5, 6, 5, 7]), [0, 2, 3, -1])),
        2,
    ),
    "a dataset thrice": (lambda: loader(data=ConcatDataset([DATA] * 3), shuffle=True), 60),
    "a dataset and parts of it": (lambda: loader(data=ConcatDataset([DATA, *PARTS])), 60),
    "parts that overlap": (lambda: loader(data=ConcatDataset(PARTS), shuffle=True), 30),
    "a part of a dataset thrice": (
        lambda: loader(data=Subset(ConcatDataset([DATA] * 3), [0, 60, 120, 1, 61, -1])),
        3,
    ),
    "a sampler of one's own": (lambda: loader(Own()), 60),
    "two workers, each with all": (lambda: loader(data=Stream(), num_workers=2), 60),
    "a list, ten times": (lambda: LIST * 10, 60),
    "a list of draws": (lambda: list(Drawn()), 60),
    "draws of one's own": (Drawn, 60),
    "rows ten times": (lambda: sws.Batches(INPUTS.repeat(10, 1), TARGETS.repeat(10)), 60),
}
AS_BEFORE = {
    "a list": (lambda: LIST, 60),
    "batches": (lambda: sws.Batches(INPUTS, TARGETS, 16), 60),
    "a loader": (lambda: loader(), 60),
    "a shuffled loader": (lambda: loader(shuffle=True), 60),
    "a stream": (lambda: loader(data=Stream()), 60),
    "all of a subset": (lambda: loader(SubsetRandomSampler(range(60))), 60),
    "batches in order": (
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(DATA), 7, False)),
        60,
    ),
    "one of two ranks": (lambda: loader(DistributedSampler(DATA, 2, 0)), 30),
    "items that are batches": (lambda: DataLoader(LIST, batch_size=None, shuffle=True), 60),
}


@pytest.mark.parametrize(
    ("make", "n"), [*DRAWN.values(), *AS_BEFORE.values()], ids=[*DRAWN, *AS_BEFORE]
)
def test_n_is_the_number_of_distinct_examples(make, n):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = survey(make(), sampled=False)
    assert found.size == n and found.doubt is None


@pytest.mark.parametrize("name", AS_BEFORE)
def test_what_was_right_is_measured_on_as_it_stands(name):
    batches = AS_BEFORE[name][0]()
    found = survey(batches, sampled=False).measured
    assert found is batches or isinstance(batches, sws.Batches)


@pytest.mark.parametrize("name", [name for name in DRAWN if DRAWN[name][1] == 60])
def test_labels_and_certificate_are_of_each_example_once(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = sws.compress(NET, DRAWN[name][0](), epochs=1)
    with torch.no_grad():
        outputs = run.decoded(INPUTS)
    wrong = int((outputs.argmax(1) != TARGETS).sum())
    expected = sws.certificate_of_counts(
        len(run.data), wrong, 60, classes=3, side=sws.SideInformation()
    )
    found = run.report.certificate
    assert found["training_examples"] == 60 and found["training_mistakes"] == wrong
    assert found["bound_percent"] == pytest.approx(expected.bound_percent)
    bits = cross_entropy(outputs, TARGETS, reduction="sum").item() / math.log(2)
    assert run.report.description["label_bits"] == pytest.approx(bits, rel=1e-5)


def test_a_pass_of_draws_says_so():
    *_, warning = sws.compress(NET, LIST * 10, epochs=1).report.warnings
    assert warning.startswith("a pass through train draws 600 times from 60 examples")


def whole_numbers(n=900):
    """Equal examples may well be different ones: there are only 8 inputs and 2 targets."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(2, (n, 3), generator=generator)
    return inputs.float(), torch.randint(2, (n,), generator=generator)


def test_equal_whole_numbers_stay_examples_but_prove_nothing_until_one_says_what_they_are():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    batches = [whole_numbers()]
    unsure = sws.compress(net, batches, epochs=1).report
    assert unsure.certificate is None and unsure.data["training"] == 900
    assert "draws 900 times from 16 distinct examples" in unsure.certificate_reason
    assert any("label_bits is of draws, and N is 900" in warning for warning in unsure.warnings)
    said = sws.compress(net, batches, epochs=1, data_size=900).report
    assert said.certificate["training_examples"] == 900
    fewer = sws.compress(net, batches, epochs=1, data_size=16).report
    assert fewer.certificate["training_examples"] == 16
    # Rows of tensors are examples.
    assert sws.compress(net, sws.Batches(*batches[0]), epochs=1).report.certificate is not None


def test_a_few_equal_examples_are_chance():
    inputs, targets = torch.cat([INPUTS] * 2), torch.cat([TARGETS] * 2)
    inputs = inputs + torch.arange(120.0)[:, None]
    inputs[7], targets[7] = inputs[3], targets[3]
    assert survey([(inputs, targets)]).size == 120


@pytest.mark.parametrize(
    ("make", "size", "n"),
    [
        (lambda: LIST, 60_000, 60),
        (lambda: LIST, 59, 60),
        (lambda: sws.Batches(INPUTS, TARGETS), 60_000, 60),
        (lambda: sws.Batches(INPUTS, TARGETS), 10, 60),
        (lambda: loader(shuffle=True), 61, 60),
        (lambda: loader(WeightedRandomSampler(weights(), 3000)), 3000, 60),
        (lambda: LIST * 10, 600, 60),
        (lambda: LIST * 10, 100, 60),
        (lambda: loader(data=Stream()), 59, 60),
        (lambda: loader(data=Stream(), num_workers=2), 120, 60),
    ],
)
def test_a_data_size_that_cannot_be_is_an_error_that_names_both(make, size, n):
    message = rf"data_size = {size:,}, but a pass through train shows {n:,} examples"
    with pytest.raises(ValueError, match=message):
        sws.compress(NET, make(), data_size=size, epochs=1)


def test_a_pass_through_a_stream_may_be_a_sample_of_it():
    report = sws.compress(NET, loader(data=Stream()), data_size=6000, epochs=1).report
    assert report.certificate["training_examples"] == 60
    assert any(
        "N is 6,000; label_bits and the certificate are of the 60" in w for w in report.warnings
    )


@pytest.mark.parametrize("of", [None, 2, 4])
def test_of_several_draws_one_is_kept(of):
    kept = list(Once(LIST * 4, of))
    assert sum(len(inputs) for inputs, _ in kept) == 60 * (1 if of is None else 4 // of)
    again = list(Once(LIST * 4, of))
    assert all(
        torch.equal(a, b)
        for one, two in zip(kept, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def oversampled(copies, cls=2):
    """Tensors in which the examples of one class come again and again."""
    rare = TARGETS == cls
    again = [(INPUTS, TARGETS), *[(INPUTS[rare], TARGETS[rare])] * copies]
    return [torch.cat(parts) for parts in zip(*again, strict=True)]


@pytest.mark.parametrize("make", [sws.Batches, lambda *data: loader(data=TensorDataset(*data))])
def test_a_class_that_comes_again_is_counted_but_declared(make):
    inputs, targets = oversampled(1)
    extra = len(inputs) - 60
    assert f"{extra} of the training examples are equal to another one" in assumed(
        make(inputs, targets)
    )
    assert "equal to another" not in assumed(make(inputs, targets), data_size=60)
    assert "equal to another" not in assumed(make(INPUTS, TARGETS))


@pytest.mark.parametrize("make", [sws.Batches, lambda *data: loader(data=TensorDataset(*data))])
def test_where_most_rows_repeat_another_there_is_no_certificate_until_one_says_what_they_are(make):
    inputs, targets = oversampled(9)
    unsure = sws.compress(NET, make(inputs, targets), epochs=1).report
    assert unsure.certificate is None and unsure.data["training"] == len(inputs)
    assert f"Say data_size=60 or data_size={len(inputs)}" in unsure.certificate_reason
    said = sws.compress(NET, make(inputs, targets), epochs=1, data_size=60).report
    assert said.certificate["training_examples"] == said.data["training"] == 60


# What the certificate assumes is said.


class Noisy(Dataset):
    """Inputs drawn anew, from a generator of any kind."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return INPUTS[i] + float(self.draw()), TARGETS[i]


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), random.random, np.random.rand])
def test_a_loader_that_augments_is_noticed_and_no_generator_moves(draw):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert augments(loader(data=Noisy(draw)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize("said", [None, 60])
def test_draws_that_are_changed_each_time_are_no_more_than_the_dataset_has(said):
    batches = loader(Own(), data=Noisy(random.random))
    report = sws.compress(NET, batches, epochs=1, data_size=said).report
    assert survey(batches).size == 60
    assert report.certificate is None
    assert "draws 600 times from a dataset of 60 examples" in report.certificate_reason


def test_a_loader_that_does_not_augment_is_not_accused():
    assert not augments(loader()) and not augments(loader(data=Stream()))


def assumed(train, **more):
    return "\n".join(sws.compress(NET, train, epochs=1, **more).report.certificate["assumes"])


def test_augmentation_is_declared():
    assert "augmentation" not in assumed(LIST) and "augmentation" not in assumed(loader())
    moved = sws.Batches(INPUTS, TARGETS, augment=lambda x: x + torch.rand(len(x), 1))
    assert "mistakes are counted on the examples as they are" in assumed(moved)
    assert "on one drawing of each example" in assumed(loader(data=Noisy(random.random)))


def noise(inputs):
    return inputs + torch.rand(())


def flipped(inputs):
    return inputs if torch.rand(()) < 0.5 else -inputs


@pytest.mark.parametrize(
    "make",
    [lambda: loader(data=Stream(noise)), lambda: loader(data=Stream(flipped)), Changed],
)
def test_augmentation_that_only_another_pass_shows_is_declared(make):
    before = torch.get_rng_state()
    assert survey(make()).size == 60 and torch.equal(before, torch.get_rng_state())
    said = assumed(make(), data_size=60)
    assert "examples of another pass through train are not among those of one" in said


class Tenfold:
    """Each of the 60 examples ten times in a pass, each time with other noise."""

    def __iter__(self):
        return ((inputs + torch.rand(len(inputs), 1), targets) for inputs, targets in LIST * 10)


class NoisyTenfold(Noisy):
    def __len__(self):
        return 600

    def __getitem__(self, i):
        return super().__getitem__(i % 60)


class StreamTenfold(Stream):
    def __iter__(self):
        return (pair for _ in range(10) for pair in super(StreamTenfold, self).__iter__())


def indexed_tenfold():
    return loader(data=NoisyTenfold(random.random))


@pytest.mark.parametrize(
    ("make", "said", "n", "certified"),
    [
        (Tenfold, None, 600, None),
        (Tenfold, 60, 60, None),
        (Tenfold, 600, 600, 600),
        (lambda: loader(data=StreamTenfold(noise)), None, 600, None),
        (lambda: loader(data=StreamTenfold(noise)), 60, 60, None),
        (indexed_tenfold, 60, 60, None),  # as one index is one example, unless one says otherwise
        (indexed_tenfold, None, 600, 600),
    ],
)
def test_repeats_that_are_changed_each_time_are_no_examples(make, said, n, certified):
    report = sws.compress(NET, make(), epochs=1, data_size=said).report
    assert survey(make(), said).size == n
    if certified:
        assert report.certificate["training_examples"] == certified
    else:
        assert report.certificate is None and "say data_size=600" in report.certificate_reason


class Bare(IterableDataset):
    def __iter__(self):
        return iter(DATA)


class Raises(Bare):
    def __len__(self):
        raise RuntimeError("not known")


@pytest.mark.parametrize("parts", [[Bare()], [Raises()], [Bare(), Bare()]])
def test_a_stream_of_unknown_length_is_counted(parts):
    chained, alone = loader(data=ChainDataset(parts)), loader(data=parts[0])
    assert survey(chained).size == survey(alone).size == 60
    assert sws.compress(NET, chained, epochs=1).report.certificate["training_examples"] == 60


class Shuffles(Own):
    def __iter__(self):
        return iter(torch.randperm(900).tolist())

    def __len__(self):
        return 900


@pytest.mark.parametrize("said", [16, 900])
def test_what_one_says_of_a_sampler_of_one_s_own_settles_it(said):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    batches = loader(Shuffles(), data=TensorDataset(*whole_numbers()), batch_size=90)
    assert "Say data_size=16 or data_size=900" in survey(batches).doubt
    report = sws.compress(net, batches, epochs=1, data_size=said).report
    assert report.certificate["training_examples"] == said


@pytest.mark.parametrize("make", [lambda: loader(data=Stream()), Drawn, lambda: loader(Own())])
def test_a_pass_in_another_order_is_no_augmentation(make):
    found = survey(make())
    assert found.anew[0] == 0 < found.anew[1] and "augmentation" not in assumed(make())


@pytest.mark.parametrize(("said", "n", "certified"), [(None, 120, 0), (60, 60, 0), (120, 120, 120)])
@pytest.mark.slow
def test_workers_that_may_each_change_all_examples_prove_nothing(said, n, certified):
    batches = loader(data=Stream(noise), num_workers=2)
    report = sws.compress(NET, batches, epochs=1, data_size=said).report
    assert survey(batches, said).size == n
    if certified:
        assert report.certificate["training_examples"] == certified
    else:
        assert report.certificate is None
        assert "by 2 workers, and changes examples" in report.certificate_reason
        assert "say data_size=120" in report.certificate_reason


class RelabelledAnew(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return INPUTS[i], (TARGETS[i] + int(torch.randint(3, ()))) % 3


class RarelyMoved(Noisy):
    """One in ten draws is changed."""

    def __getitem__(self, i):
        return INPUTS[i] + (random.random() < 0.1), TARGETS[i]


def test_targets_that_change_and_changes_that_are_rare_are_augmentation():
    random.seed(0)
    assert augments(loader(data=RelabelledAnew())) and augments(loader(data=RarelyMoved(None)))


def test_the_start_and_a_split_for_choosing_are_declared():
    assert "start: the network as it was given" in assumed(LIST)
    start = {name: tensor.detach() for name, tensor in NET.named_parameters()}
    assert "start: weights given by start=" in assumed(LIST, start=start)
    other = [(INPUTS + 1, TARGETS)]
    assert "validation" not in assumed(LIST)
    assert "validation: what is chosen by" in assumed(LIST, validation=other)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_examples_that_two_splits_share_are_counted(split):
    other = [(torch.cat([INPUTS[:7], INPUTS + 1]), torch.cat([TARGETS[:7], TARGETS]))]
    report = sws.compress(NET, LIST, epochs=1, **{split: other}).report
    line = f"7 of 67 {split} examples are equal to training examples"
    assert any(line in text for text in report.certificate["assumes"])
    apart = sws.compress(NET, LIST, epochs=1, **{split: [(INPUTS + 1, TARGETS)]}).report
    assert not any("equal to training" in text for text in apart.certificate["assumes"])


@pytest.mark.parametrize(("again", "shared"), [(range(60), 60), (range(50, 80), 10), (range(0), 0)])
def test_a_test_split_by_whose_examples_is_chosen_is_declared(again, shared):
    def shifted(rows):
        rows = torch.tensor(list(rows))
        return INPUTS[rows % 60] + 1 + rows[:, None] // 60, TARGETS[rows % 60]

    validation, test = [shifted(range(60))], [shifted([*again, 90, 91])]
    report = sws.compress(NET, LIST, validation=validation, test=test, epochs=1).report
    line = f"{shared} of {len(again) + 2} test examples are equal to validation examples"
    found = [text for text in report.certificate["assumes"] if "equal to validation" in text]
    assert (len(found) == 1 and line in found[0]) if shared else not found
    counts = {"training": 60, "validation": 60, "test": len(again) + 2}
    assert {name: report.data[name] for name in counts} == counts


OTHERS = TensorDataset(INPUTS + 1, TARGETS)


@pytest.mark.parametrize(
    ("make", "draws"),
    [
        (lambda: [OTHERS[:]] * 10, 600),
        (lambda: loader(WeightedRandomSampler([1.0] * 60, 600), data=OTHERS), 600),
        (lambda: [OTHERS[:]], None),
        (lambda: [whole_numbers()], None),  # equal by chance
    ],
)
def test_test_draws_that_are_no_examples_are_warned_of(make, draws):
    test = make()
    inputs = next(iter(test))[0].shape[1]
    net, train = (NET, LIST) if inputs == 4 else (torch.nn.Linear(3, 3), [(INPUTS[:, :3], TARGETS)])
    warnings = sws.compress(net, train, test=test, epochs=1).report.warnings
    found = [text for text in warnings if "pass through test" in text]
    if draws is None:
        assert not found
    else:
        assert f"draws {draws} times from 60 distinct examples" in found[0]


def test_without_a_certificate_shared_examples_are_warned_of():
    net, batches = torch.nn.Linear(4, 1), [(INPUTS, INPUTS[:, :1])]
    report = sws.compress(net, batches, test=batches, likelihood="gaussian", epochs=1).report
    assert any("60 of 60 test examples are equal" in text for text in report.warnings)


def test_a_recipe_s_data_is_counted_as_any_other(tmp_path):
    """Its function may give every row twice."""
    (tmp_path / "twice.py").write_text(
        POINTS + "\n\ndef twice():\n"
        "    return {'train': [torch.cat([part, part]) for part in points()['train']]}\n"
    )
    run = run_recipe(read_recipe(write_recipe(tmp_path, data="twice.py:twice")), tmp_path / "run")
    once = run_recipe(read_recipe(write_recipe(tmp_path)), tmp_path / "once")
    n = once.report.data["training"]
    assert run.report.certificate["training_examples"] == n
    assert any(f"draws {2 * n} times from {n} examples" in w for w in run.report.warnings)
    assert subject_of(run).model.data_size == n
    assert "start: a network pre-trained on these" in "\n".join(run.report.certificate["assumes"])


def test_nan_targets_are_named_before_the_fit():
    net, targets = torch.nn.Linear(4, 1), INPUTS[:, :1].clone()
    targets[[3, 30]] = torch.nan
    with pytest.raises(ValueError, match="train has NaN targets in 2 of 60 examples"):
        sws.compress(net, [(INPUTS, targets)], likelihood="gaussian", epochs=1)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_nan_targets_to_score_on_are_named_before_the_fit(split):
    net, targets = torch.nn.Linear(4, 1), INPUTS[:, :1].clone()
    other = [(INPUTS, targets), (INPUTS, targets.log())]  # the logarithm of what is negative
    count = int((targets < 0).sum())
    with pytest.raises(ValueError, match=f"{split} has NaN targets in {count} of 60 examples"):
        sws.compress(
            net,
            [(INPUTS, targets)],
            likelihood="gaussian",
            epochs=1,
            callback=lambda progress: pytest.fail("the fit began"),
            **{split: other},
        )
