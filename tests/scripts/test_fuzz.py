"""The fuzzer of all readers: its seeds are valid, it sees what it looks for, and says what came."""

import json
import sys

import numpy as np
import pytest

REFUSED = "net.pt"  # the one seed that no reader takes: a pickle


@pytest.fixture
def fuzzer(script):
    return script("fuzz")


@pytest.fixture
def readers(script):
    return script("fuzzing.readers").READERS


QUICK = ("report", "frontier", "checkpoint", "shards", "start", "sws", "expand", "idx", "cifar")


@pytest.mark.parametrize("name", [*QUICK, "table", "recordings", "recipe"])
def test_every_seed_is_valid(readers, name, tmp_path):
    targets = readers[name](tmp_path)
    assert targets
    for target in targets:
        if target.file.name != REFUSED:
            target.read(target.file)


def test_a_few_mutants_of_each_kind_are_read_or_refused(fuzzer):
    found = fuzzer.fuzz(QUICK, 20, seed=1, finds=None)
    assert [sum(tally.outcomes.values()) for tally in found.values()] == [20] * len(QUICK)
    assert not [find for tally in found.values() for find in tally.finds]


def test_the_same_seed_makes_the_same_mutants(script, readers, tmp_path):
    mutant = script("fuzzing.readers").mutant
    targets = readers["shards"](tmp_path)
    one, other = (mutant(np.random.default_rng([1, 2]), targets)[1] for _ in range(2))
    assert one == other


def looping(path):
    while True:
        pass


def dying(path):
    sys.exit(3)  # no Exception: the child ends


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda path: {}["a"], "KeyError"),
        (lambda path: bytes(2 << 30), "MemoryError"),
        (looping, "over a second"),
        (dying, "the process ended with 3"),
    ],
)
def test_other_answers_are_finds(fuzzer, script, monkeypatch, read, outcome):
    readers = script("fuzzing.readers")
    target = readers.Target

    def broken(folder):
        (folder / "a").write_bytes(b"seed")
        return [target(folder / "a", b"seed", readers.BYTES, lambda path: read(path))]

    monkeypatch.setattr(fuzzer, "_warm_up", lambda targets: None)
    monkeypatch.setattr(fuzzer, "SECONDS", 0.2)
    monkeypatch.setitem(fuzzer.READERS, "broken", broken)
    [tally] = fuzzer.fuzz(["broken"], 1, seed=0, finds=None).values()
    assert dict(tally.outcomes) == {outcome: 1}
    assert [find["number"] for find in tally.finds] == [0]


def test_a_run_writes_what_came_of_it(fuzzer, monkeypatch, tmp_path):
    out = tmp_path / "found.json"
    given = ["--inputs", "10", "--readers", "idx,cifar", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [fuzzer.__file__, *given])
    fuzzer.main()
    found = json.loads(out.read_text())
    assert (found["inputs"], found["finds"], list(found["readers"])) == (20, 0, ["idx", "cifar"])
    assert found["_about"]["command"] == "python scripts/fuzz.py --inputs 10 --readers idx,cifar"
