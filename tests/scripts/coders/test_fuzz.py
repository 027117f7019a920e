"""The fuzzer: a few hundred of its mutants, its limits, and that it would see what it looks for."""

import json
import sys

import numpy as np
import pytest

from pyro_sws.codec.container import decode, encode


@pytest.fixture
def fuzzer(script):
    return script("coders.fuzz")


def test_damaged_files_are_refused_or_decoded_within_the_limits(fuzzer):
    tally = fuzzer.fuzz(300, seed=0)
    assert not tally.failures and tally.failed == 0
    assert sum(sum(counts.values()) for counts in tally.outcomes.values()) == 300
    assert set(tally.outcomes) == set(fuzzer.EDITS)


@pytest.mark.integration
def test_the_same_seed_makes_the_same_mutants(fuzzer):
    first, second = fuzzer.fuzz(20, seed=5), fuzzer.fuzz(20, seed=5)
    assert first.outcomes == second.outcomes


@pytest.mark.parametrize("error", [MemoryError, RecursionError, IndexError("out"), TimeoutError])
def test_other_errors_are_failures(fuzzer, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(fuzzer, "decode", broken)
    outcome = fuzzer.answer(b"", None)
    assert outcome not in fuzzer.DOCUMENTED
    tally = fuzzer.Tally()
    tally.add("bits", b"\0", outcome, 0.1)
    assert tally.failed == 1 and tally.failures[0]["file"] == "00"


def test_the_limits_bite(fuzzer):
    with fuzzer.limited_memory(256 << 20), pytest.raises(MemoryError):
        np.zeros(300 << 20, np.uint8)
    with pytest.raises(TimeoutError), fuzzer.limited_time(0.05):
        while True:
            pass


@pytest.mark.slow
def test_a_file_that_claims_much_is_read_up_to_its_symbols(fuzzer, monkeypatch):
    """A million weights, in the five seconds that compiled loops need a small part of."""
    pytest.importorskip("numba")
    monkeypatch.setenv("PYRO_SWS_CODEC", "numba")
    fuzzer.warm_up([])
    rng = np.random.default_rng(0)
    answers = {fuzzer.answer(fuzzer.repaired(fuzzer.claim(rng)), None) for _ in range(8)}
    assert answers <= {"refused", "decoded"}


@pytest.mark.integration
def test_every_seed_is_whole(fuzzer):
    for file in fuzzer.seeds():
        found = decode(file.data, architecture=file.architecture)
        assert decode(encode(found)) == found


@pytest.mark.integration
def test_a_run_writes_what_came_of_it(fuzzer, monkeypatch, tmp_path):
    out = tmp_path / "fuzz.json"
    monkeypatch.setattr(sys, "argv", [fuzzer.__file__, "--mutants", "30", "--out", str(out)])
    monkeypatch.setenv("PYRO_SWS_CODEC", "auto")
    fuzzer.main()
    found = json.loads(out.read_text())
    assert found["failed"] == 0 and found["mutants"] == 30
    assert found["_about"]["command"] == "python scripts/coders/fuzz.py --mutants 30"
