"""Folded batch norms in a file: which tensors take no room, and what a reader refuses."""

import tracemalloc

import numpy as np
import pytest
from checksums import with_checksum
from coded_networks import folded_norms, two_layers

from pyro_sws.codec.container import FormatError, decode, encode, has_fingerprint, inspect
from pyro_sws.codec.folded_norms import statistics_last
from pyro_sws.codec.symbols import Quantized


def shapes_of(quantized):
    return {n: a.shape for n, a in {**quantized.symbols, **quantized.raw}.items()}


def with_raw(quantized, **changes):
    """The same with other raw tensors; names have "_" for their dots."""
    raw = dict(quantized.raw)
    for name, values in changes.items():
        raw["2.norm." + name] = values
    return Quantized(quantized.symbols, quantized.codebooks, quantized.codebook_of, raw)


def test_a_norm_more_takes_one_byte_and_one_with_another_variance_seven():
    """By hand: a place; and before it the dtype, four bytes of the variance, and how many."""
    lengths = []
    for folded in (1, 2, 3):
        held = folded_norms()
        gone = [f"{i}.norm.{s}" for i in range(folded, 3) for s in ("running_mean", "running_var")]
        gone += [f"{i}.norm.num_batches_tracked" for i in range(folded, 3)]
        raw = {name: values for name, values in held.raw.items() if name not in gone}
        lengths.append(len(encode(Quantized(held.symbols, held.codebooks, held.codebook_of, raw))))
    assert [b - a for a, b in zip(lengths, lengths[1:], strict=False)] == [1, 7]


def has_norms(data):
    return data[3] >= 3 and bool(data[4] & 32)


def test_files_without_folded_norms_are_of_format_2_and_with_them_alone_of_3():
    held = folded_norms()
    raw = {name: values for name, values in held.raw.items() if not name.startswith("other")}
    alone = Quantized(held.symbols, held.codebooks, held.codebook_of, raw)
    assert encode(two_layers())[3] == 2
    assert encode(alone)[3] == 3 and decode(encode(alone)) == alone
    assert encode(held)[3] == 4 and has_norms(encode(held))


NOT_FOLDED = [
    {"running_mean": np.array([0, 0, 0, 1], np.float32)},
    {"running_mean": np.array([0, 0, 0, -0.0], np.float32)},
    {"running_var": np.array([1, 1, 1, 2], np.float32)},
    {"running_var": np.full(4, -1, np.float32)},
    {"running_var": np.full(4, np.nan, np.float32)},
    {"running_var": np.full(4, 1, np.float64)},
    {"num_batches_tracked": np.array(7)},
    {"num_batches_tracked": np.array(0, np.int32)},
    {"running_mean": np.zeros(3, np.float32), "running_var": np.ones(3, np.float32)},
]


@pytest.mark.parametrize("changes", NOT_FOLDED)
@pytest.mark.parametrize("fingerprint", [True, False])
def test_other_statistics_are_kept_bit_for_bit(changes, fingerprint):
    held = with_raw(folded_norms(), **changes)
    architecture = shapes_of(held) if fingerprint else None
    data = encode(held, architecture=architecture)
    assert decode(data, architecture=architecture) == held
    assert not has_norms(data)  # it is the last norm, and those before it must end the file


def test_statistics_of_folded_norms_are_put_last_where_a_file_has_room_for_less():
    held = folded_norms()
    backwards = dict(reversed(held.raw.items()))
    ordered = statistics_last(backwards, {n: s.shape for n, s in held.symbols.items()})
    assert ordered.keys() == held.raw.keys()
    other = Quantized(held.symbols, held.codebooks, held.codebook_of, ordered)
    assert decode(encode(other)) == other and has_norms(encode(other))


def test_a_file_with_a_fingerprint_says_so():
    held = folded_norms()
    data = encode(held, architecture=shapes_of(held))
    assert has_fingerprint(data) and not has_fingerprint(encode(held))
    assert decode(data, architecture=shapes_of(held)) == held
    layout = inspect(data, architecture=shapes_of(held))
    assert layout.tensors["0.norm.running_var"].shape == (4,)
    assert sum(layout.bits.values()) == 8 * len(data)


def body(*parts):
    return with_checksum(b"SWS\x03" + b"".join(bytes(p) for p in parts))


def norm(*places, variance=(0, 0x3C)):
    """One group of float16."""
    return [1, 0, *variance, len(places), *places]


COUNTS = [32, 1]  # flags; one coded tensor
W = [0x11, 1, ord("n"), 2]  # "n.weight", two of them
END = [1, 8, 1, 0, 0]
RAW_MEAN = [0x31, 1, ord("n"), 2]  # "n.running_mean"
MALFORMED = {
    "unknown flags 64": body([64], END),
    "no groups of folded norms": body(COUNTS, W, [0], END),
    "no folded norms": body(COUNTS, W, [1, 0, 0, 0x3C, 0], END),
    "groups of folded norms cannot be": body(COUNTS, W, [99], END),
    "a running variance of unknown dtype 3": body(COUNTS, W, [1, 3, 0, 0], END),
    "a running variance is nan": body(COUNTS, W, norm(0, variance=(1, 0x7E)), END),
    "a running variance is -1": body(COUNTS, W, norm(0, variance=(0, 0xBC)), END),
    "has the place 1 of 1 tensors": body(COUNTS, W, norm(1), END),
    "the tensor 'n.running_mean' is there twice": body(COUNTS, W, norm(0, 0), END),
    "'n.bias' is not the weight": body(COUNTS, [0x21, 1, ord("n"), 2], norm(0), END),
    "'nweight' is not the weight": body(COUNTS, [1, 7], b"nweight", [2], norm(0), END),
    "'n.weight' of a folded norm is no vector": body(
        COUNTS, [0x12, 1, ord("n"), 2, 2], norm(0), END
    ),
    "'n.running_mean' is there": body([36, 1, 1], W, RAW_MEAN, norm(0), [1, 8, 1], [0] * 5, [0, 0]),
}


@pytest.mark.parametrize("message", MALFORMED)
def test_a_malformed_norm_is_refused(message):
    with pytest.raises(FormatError, match=message) as caught:
        decode(MALFORMED[message])
    assert "\n" not in str(caught.value)


def test_a_well_formed_norm_is_read():
    held = decode(body(COUNTS, W, norm(0), PAYLOAD))
    assert {name: values.tolist() for name, values in held.raw.items()} == {
        "n.running_mean": [0.0, 0.0],
        "n.running_var": [1.0, 1.0],
        "n.num_batches_tracked": 0,
    }


ARCHITECTURES = {
    "'n.running_var' of a folded norm has shape": {"n.running_var": (3,)},
    "'n.num_batches_tracked' of a folded norm .* no such tensor": {"n.num_batches_tracked": None},
}


@pytest.mark.parametrize("message", ARCHITECTURES)
def test_statistics_that_an_architecture_lacks_are_refused(message):
    names = ("weight", "running_mean", "running_var")
    shapes = {f"n.{name}": (2,) for name in names} | {"n.num_batches_tracked": ()}
    shapes |= ARCHITECTURES[message]
    shapes = {name: shape for name, shape in shapes.items() if shape is not None}
    mark = encode(Quantized({}, {}, {}), architecture=shapes)[5:9]
    with pytest.raises(FormatError, match=message):
        decode(body([33], mark, norm(0), END), architecture=shapes)


PAYLOAD = [1, 8, 1, 4, 0, 0, 0, 0]  # the codebook "all" of a float16 0; 4 bytes of zeros


def test_norms_do_not_stand_for_more_weights_than_allowed():
    huge = [0xFF] * 4 + [0x07]  # 2**31 - 1
    bomb = body(COUNTS, [0x11, 1, ord("n"), *huge], norm(0), PAYLOAD)
    inspect(bomb)  # what is loaded and compiled at first use
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="2147483647 weights; max_weights allows"):
            decode(bomb)
        assert inspect(bomb).tensors["n.running_var"].shape == (2**31 - 1,)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # bytes
