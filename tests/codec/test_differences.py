"""Format 6, differences to a base: by hand from docs/format.md, damaged, and as it is announced."""

import zlib
from dataclasses import replace

import pytest
from checksums import with_checksum
from coded_networks import everything, fingerprinted, two_layers

import pyro_sws as sws
from pyro_sws.codec.container import has_fingerprint
from pyro_sws.codec.symbols import Quantized

BASE = b"\x01base\xff..."[:8]


def by_hand(plain, base=BASE):
    whole = b"SWS\x06" + base + plain[3:-4]
    return whole + zlib.crc32(whole).to_bytes(4, "little")


@pytest.mark.parametrize("make", [two_layers, everything])
def test_it_is_the_plain_file_with_the_bases_name_before_it(make):
    plain = sws.encode(make())
    data = sws.encode(replace(make(), base=BASE))
    assert data == by_hand(plain) and len(data) == len(plain) + 9
    found = sws.decode(data)
    assert found.base == BASE and replace(found, base=b"") == make() and found != make()


def test_a_file_for_one_architecture_may_be_one():
    quantized, shapes = fingerprinted()
    data = sws.encode(replace(quantized, base=BASE), architecture=shapes)
    assert has_fingerprint(data)
    assert sws.decode(data, architecture=shapes) == replace(quantized, base=BASE)
    with pytest.raises(ValueError, match="fingerprint"):
        sws.decode(data)


def test_inspect_names_the_base_and_counts_every_bit():
    data = sws.encode(replace(two_layers(), base=BASE))
    found, plain = sws.inspect(data), sws.inspect(sws.encode(two_layers()))
    assert (found.version, found.base) == (6, BASE)
    assert sum(found.bits.values()) == 8 * len(data)
    assert found.bits["header"] == plain.bits["header"] + 8 * 9


@pytest.mark.parametrize("inner", [1, 5, 6, 255])
def test_another_format_inside_is_refused(inner):
    data = bytearray(by_hand(sws.encode(two_layers())))
    data[12] = inner
    with pytest.raises(sws.FormatError, match=f"holds one of format {inner}, not of 2 to 4"):
        sws.decode(with_checksum(bytes(data[:-4])))


@pytest.mark.parametrize("length", range(4, 18))
def test_a_piece_of_one_is_refused(length):
    data = by_hand(sws.encode(two_layers()))[:length]
    with pytest.raises(sws.FormatError):
        sws.decode(data)
    with pytest.raises(sws.FormatError):
        sws.decode(with_checksum(data))


def test_a_base_of_another_length_is_refused():
    with pytest.raises(ValueError, match="base must be 8 bytes, or none; got 3"):
        Quantized({}, {}, {}, base=b"abc")
