"""The context model: what structure it finds, against the same symbols without that structure."""

import sys

import numpy as np
import pytest
from structured_symbols import (
    LEVELS,
    blobs,
    kernels,
    linked_layers,
    shuffled,
    shuffled_pixels,
    sparse_columns,
    sparse_rows,
)

from pyro_sws.bounds.rates import empirical_entropy_bits
from pyro_sws.codec import loops as compiled
from pyro_sws.codec.coders import CODERS, Plane
from pyro_sws.codec.context_coder import MOST_LEVELS
from pyro_sws.codec.contexts import COUNTED, ZERO_SLOTS, classes, sign, slots_needed, strength
from pyro_sws.codec.mixing import BUCKETS
from pyro_sws.codec.stream import Stream


def bits(*tensors, zero=0):
    """What the context coder takes for each."""
    planes = [Plane(t.shape, LEVELS, zero) for t in tensors]
    return CODERS["context"].write(Stream(), tensors, planes)


def entropy(symbols):
    return empirical_entropy_bits(np.bincount(symbols.ravel(), minlength=LEVELS))


STRUCTURED = {
    "columns": (sparse_columns, 0.85),
    "rows": (sparse_rows, 0.85),
    "images": (blobs, 0.5),
    "kernels": (kernels, 0.85),
}


@pytest.mark.parametrize("kind", STRUCTURED)
def test_structure_takes_the_length_well_below_the_order_0_entropy(kind):
    make, share = STRUCTURED[kind]
    assert bits(make())[0] < share * entropy(make())


@pytest.mark.parametrize("kind", STRUCTURED)
def test_without_structure_the_length_is_near_the_entropy(kind):
    """To 4 % and what learning five chances takes: the model has found nothing in noise."""
    symbols = shuffled(STRUCTURED[kind][0]())
    assert entropy(symbols) < bits(symbols)[0] < 1.04 * entropy(symbols) + 60


def test_smooth_images_are_cheaper_than_the_same_pixels_shuffled():
    images = blobs()
    assert bits(images)[0] < 0.8 * bits(shuffled_pixels(images))[0]


def test_an_image_is_known_by_its_shape():
    """The same rows less a column are no square: what lies above is not seen any more."""
    images = blobs()
    assert bits(images)[0] < 0.9 * bits(images[:, :-1])[0]


def test_what_a_dead_unit_feeds_is_cheap():
    """With few outputs there is little else to tell which columns are dead."""
    first, second = linked_layers(units=200, inputs=10, outputs=4)
    assert bits(first, second)[1] < 0.87 * bits(second)[0]


def test_weights_learn_on_from_tensor_to_tensor():
    """A second of the same kind, of another seed, starts with the first one's weights."""
    first, second = blobs(seed=1), blobs(seed=2)
    assert bits(first, second)[1] < bits(second)[0]


def test_rows_that_are_all_zero_cost_a_few_hundredths_of_a_bit_a_weight():
    symbols = np.zeros((200, 50), np.uint8)
    symbols[::40] = sparse_columns(5, 50)
    symbols[100:] = 0
    busy = bits(symbols[:100])[0]
    assert bits(symbols)[0] - busy < 0.03 * 5000


@pytest.mark.parametrize("zero", [None, 0, 2, LEVELS - 1])
def test_signs_that_follow_their_neighbours_are_cheap(zero):
    """Stripes of symbols above and below the middle; a third of their entropy goes."""
    stripes = (np.arange(1500) // 20 % 2 * 3).reshape(30, 50)
    symbols = (stripes + np.random.default_rng(0).integers(0, 3, stripes.shape)).astype(np.uint8)
    assert bits(symbols, zero=zero)[0] < 0.8 * entropy(symbols)


def test_classes_of_counts_by_hand():
    counted, lengths = classes()
    assert [counted[n] for n in (0, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 19, 20, 31, 32, 63, 64)] == [
        *(0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10)
    ]
    assert len(counted) == COUNTED + 1
    assert [lengths[n] for n in (0, 1, 2, 3, 4, 255, 256, 1023)] == [0, 1, 2, 2, 3, 8, 9, 10]


def test_signs_and_strengths_by_hand():
    assert [sign(v) for v in (-7, 0, 3)] == [1, 0, 2]
    assert [strength(v, 2) for v in (-9, -7, -6, -3, -2, -1, 0, 1, 2, 3, 6, 7)] == [
        *(0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6)
    ]


def test_the_memory_for_chances_is_bounded():
    assert slots_needed(0, 0) == ZERO_SLOTS + 6 * 512 and BUCKETS == 7
    assert slots_needed(MOST_LEVELS, 0) < 1 << 19
    assert slots_needed(3, 2) == slots_needed(3, 0) + 2 * (2 * 1024 + 3 * 768)
    assert slots_needed(MOST_LEVELS, 2) < 1 << 21


def test_a_numba_that_cannot_be_imported_is_done_without(monkeypatch):
    monkeypatch.delenv("PYRO_SWS_CODEC", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)  # an import of it fails
    monkeypatch.setattr(compiled, "_compile", compiled._compile.__wrapped__)
    assert not compiled.loops(compiled.WORTH_LOADING).compiled
    monkeypatch.setenv("PYRO_SWS_CODEC", "numba")
    with pytest.raises(ImportError, match="install pyro-sws\\[fast\\]"):
        compiled.loops(1)


def test_many_small_files_are_worth_a_compilation_as_one_large_one_is(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.delenv("PYRO_SWS_CODEC", raising=False)
    monkeypatch.setitem(compiled._CODED, "symbols", 0)
    assert not compiled.loops(1).compiled
    with compiled.expecting(compiled.WORTH_LOADING):
        assert compiled.loops(1).compiled
        with compiled.expecting(1):
            assert compiled.loops(1).compiled
    assert not compiled.loops(1).compiled
    assert not compiled.loops(compiled.WORTH_LOADING // 2).compiled
    assert compiled.loops(compiled.WORTH_LOADING // 2).compiled
