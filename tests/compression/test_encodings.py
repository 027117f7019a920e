"""Encodings: a file is made once for what is the same, and is what ``encode`` makes."""

import pytest
from coded_networks import two_layers

from pyro_sws.codec.container import encode
from pyro_sws.compression import encodings
from pyro_sws.compression.encodings import Encodings


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(encodings, "encode", lambda q, **k: made.append(q) or encode(q, **k))
    return made


def test_the_length_and_the_file_are_those_of_one_encoding(calls):
    files, expected = Encodings(), encode(two_layers())
    assert files.length(two_layers()) == len(expected)
    assert files.of(two_layers()) == expected
    assert len(calls) == 1


def test_a_longer_file_than_the_shortest_is_made_again(calls):
    short, long = two_layers(), two_layers()
    long = type(long)(
        long.symbols,
        long.codebooks,
        long.codebook_of,
        {"more": next(iter(short.codebooks.values()))},
    )
    files = Encodings()
    lengths = files.length(short), files.length(long)
    assert lengths[0] < lengths[1]
    assert files.of(long) == encode(long) and files.of(short) == encode(short)
    assert len(calls) == 3


def test_a_fingerprint_is_another_file():
    files, net = Encodings(), two_layers()
    shapes = {name: values.shape for name, values in {**net.symbols, **net.raw}.items()}
    files.length(net)
    assert files.of(net, shapes) == encode(net, architecture=shapes)
