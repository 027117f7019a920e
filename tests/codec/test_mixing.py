"""Mixing: tables from their formulas, an estimator in closed form, and a mixture of experts."""

import math
import zlib

import numpy as np
import pytest

from pyro_sws.codec.mixing import BUCKETS, EVEN, LIMIT, ONE, REACH, learn, predict, tables

TABLES = tables()
PINNED = [1314331451, 1811812239, 2392052685, 2122600346]
LOGISTIC = [ONE / (1 + math.exp(-x / 256)) for x in range(-REACH, REACH + 1)]
LOGIT = [256 * math.log(p / (ONE - p)) for p in range(1, ONE)]


@pytest.mark.parametrize("values", [LOGISTIC, LOGIT], ids=["squash", "stretch"])
def test_no_table_entry_is_near_a_rounding_boundary(values):
    """A library's exp or log is off by some 1e-11 here; 1e-8 leaves it no say."""
    fractions = np.abs(np.array(values) % 1 - 0.5)
    assert fractions.min() > 1e-8


def test_tables_are_what_the_formulas_say():
    squash, stretch, share, bucket = TABLES
    assert squash == [min(ONE - 1, max(1, round(x))) for x in LOGISTIC]
    assert stretch[1:] == [max(-REACH, min(REACH, round(x))) for x in LOGIT]
    assert stretch[0] == round(256 * math.log(0.5 / (ONE - 0.5)))
    assert share == [ONE // (n + 2) for n in range(LIMIT + 1)]
    assert [bucket[n] for n in (0, 1, 2, 3, 4, 7, 8, 15, 16, 47, 48, LIMIT)] == [
        *(0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)
    ]


def test_tables_are_these_on_every_machine():
    checksums = [zlib.crc32(np.array(table, "<i4").tobytes()) for table in TABLES]
    assert checksums == PINNED


def test_squash_and_stretch_are_each_others_inverse_where_probabilities_are_apart():
    squash, stretch, _, _ = TABLES
    for p in range(ONE // 100, ONE * 99 // 100, 97):
        # A step of stretch is p (1 - p) / 256 wide, and it rounds to half a step.
        assert abs(squash[stretch[p] + REACH] - p) <= p * (ONE - p) / ONE / 512 + 1


class Mixer:
    """Some contexts, and weights that start at ``weight``."""

    def __init__(self, contexts, slots, weight):
        self.contexts = contexts
        weights = [weight] * (BUCKETS * contexts)
        self.models = ([-1] * slots, [0] * slots, weights, *([0] * contexts for _ in range(3)))

    def code(self, slots, bit, rate):
        """-> the probability of a 1 before the bit."""
        self.models[5][:] = slots
        p = predict(TABLES, self.models, self.contexts, 0, 0)
        learn(TABLES, self.models, self.contexts, 0, bit, p, rate)
        return p / ONE


@pytest.mark.parametrize("n", [1, 2, 10, 100, LIMIT])
def test_a_young_chance_is_the_krichevsky_trofimov_estimate(n):
    """Shares 1 / (n + 2) from 1/2 on give (ones + 1/2) / (n + 1)."""
    mixer, bits = Mixer(1, 1, 1 << 16), [i * i % 5 == 1 for i in range(n)]
    for bit in bits:
        mixer.code([0], int(bit), 0)
    estimate = (sum(bits) + 0.5) / (n + 1)
    assert mixer.models[0][0] / (2 * EVEN) == pytest.approx(estimate, abs=2e-3)


@pytest.mark.parametrize("p", [0.002, 0.1, 0.5, 0.93])
def test_a_single_context_comes_to_the_sources_probability(p, n=8000):
    mixer, bits = Mixer(1, 1, 1 << 16), np.random.default_rng(1).random(n) < p
    told = [mixer.code([0], int(bit), 0) for bit in bits]
    # Chances forget beyond 400 decisions: each errs by sqrt(p q / 800); half of them, averaged.
    error = 5 * math.sqrt(p * (1 - p) / (n / 2))
    assert np.mean(told[n // 2 :]) == pytest.approx(p, abs=error + 1e-3)


def cost(mixer, slots, bits, rate):
    told = [mixer.code(s, int(bit), rate) for s, bit in zip(slots, bits, strict=True)]
    return -sum(math.log2(p if bit else 1 - p) for p, bit in zip(told, bits, strict=True))


def test_a_mixture_is_about_as_good_as_its_best_context():
    """One context tells all that there is, one nothing: learning that costs under a tenth."""
    rng = np.random.default_rng(2)
    state, noise = rng.integers(0, 2, 6000), rng.integers(0, 2, 6000)
    bits = rng.random(6000) < np.where(state, 0.95, 0.02)
    best = cost(Mixer(1, 2, 1 << 16), [[s] for s in state], bits, 0)
    mixed = cost(Mixer(2, 4, 20000), list(zip(state, 2 + noise, strict=True)), bits, 10)
    assert mixed < 1.1 * best


def test_a_mixture_beats_each_context_where_they_know_different_things():
    """log-odds that are a sum over two independent causes are just what is mixed."""
    rng = np.random.default_rng(3)
    one, other = rng.integers(0, 2, (2, 6000))
    bits = rng.random(6000) < 1 / (1 + np.exp(-(3 * (2 * one - 1) + 3 * (2 * other - 1))))
    alone = [cost(Mixer(1, 2, 1 << 16), [[s] for s in state], bits, 0) for state in (one, other)]
    mixed = cost(Mixer(2, 4, 20000), list(zip(one, 2 + other, strict=True)), bits, 10)
    assert mixed < 0.95 * min(alone)
