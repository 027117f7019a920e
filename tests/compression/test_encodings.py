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


@pytest.mark.parametrize(("kept", "made"), [(10_000, 2), (0, 3)])
def test_an_older_file_is_made_again_where_there_is_no_room_for_two(calls, kept, made):
    first, second = two_layers(), two_layers()
    more = {"more": next(iter(first.codebooks.values()))}
    second = type(second)(second.symbols, second.codebooks, second.codebook_of, more)
    files = Encodings(kept)
    assert files.length(first) < files.length(second)
    assert files.of(second) == encode(second) and files.of(first) == encode(first)
    assert len(calls) == made


def test_a_fingerprint_is_another_file():
    files, net = Encodings(), two_layers()
    shapes = {name: values.shape for name, values in {**net.symbols, **net.raw}.items()}
    files.length(net)
    assert files.of(net, shapes) == encode(net, architecture=shapes)
