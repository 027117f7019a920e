"""Mutations of valid files: of bytes, and of the fields of JSON, safetensors, TOML and gzip. Numpy.

Each takes a generator and a seed's bytes, and gives bytes. What a field becomes is what a reader
may not expect: another type, a huge number, a path, 100,000 brackets.
"""

import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[Rng, bytes], bytes]

DEEP = 100_000  # brackets
BOMB = 1 << 30  # bytes that a gzip bomb unpacks to
RARE = 0.002  # of the mutants are as large as that
ODD = (  # as JSON has them
    *("null", "true", "-1", "0", "1", "2147483648", "9223372036854775808", "-9223372036854775809"),
    *("1e999", "-1e999", "NaN", "1e-320", "0.5", "1" + "0" * 5000, "[]", "{}", "[[]]", "[0]"),
    *('""', '"a"', '"../../x"', '"/etc/hostname"', '"a\\u0000b"', '"\\ud800"', '{"a": 1}', "[-1]"),
    *("[1, 2, 3]", "[1152921504606846976, 16]", '["float32"]', '"' + "x" * 1000 + '"'),
)
HUGE = ("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "0" + "}" * DEEP, "[" * DEEP, '"' + "x" * 10**7)
EXTREMES = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
PLACE = "\ue000here\ue000"


def any_of(rng: Rng, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def bits(rng: Rng, data: bytes) -> bytes:
    """Some bits turned round."""
    edited = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(8 * len(data)))
        edited[at // 8] ^= 1 << at % 8
    return bytes(edited)


def cut(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data)))]


def insert(rng: Rng, data: bytes) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]


def splice(rng: Rng, data: bytes) -> bytes:
    """A part left out, or there twice."""
    first, second = int(rng.integers(len(data))), int(rng.integers(len(data)))
    return data[:first] + data[second:]


def number(rng: Rng, data: bytes) -> bytes:
    """A length at the front, or anywhere, that is extreme."""
    width = any_of(rng, (1, 2, 4, 8))
    value = any_of(rng, EXTREMES) % 256**width
    at = int(rng.integers(min(len(data), any_of(rng, (16, 64, len(data))))))
    made = value.to_bytes(width, any_of(rng, ("big", "little")))
    return data[:at] + made + data[at + width :]


BYTES: tuple[Mutation, ...] = (bits, cut, insert, splice, number)


def json_field(rng: Rng, data: bytes) -> bytes:
    """A value of a JSON text, or of one of several lines, in another's place."""
    lines = data.decode().splitlines() if data[:1] != b"{" or b"}\n{" in data else [data.decode()]
    i = int(rng.integers(len(lines)))
    lines[i] = _edited_json(rng, lines[i])
    return "\n".join(lines).encode()


def safetensors_field(rng: Rng, data: bytes) -> bytes:
    """A field of the header, or of a table in its metadata; the header's length is right."""
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length].decode(), data[8 + length :]
    told = json.loads(header)
    metadata = told.get("__metadata__", {})
    tables = [key for key, text in metadata.items() if text[:1] in "{["]
    if tables and rng.integers(2):
        key = any_of(rng, tables)
        metadata[key] = _edited_json(rng, metadata[key])
        header = json.dumps(told)
    else:
        header = _edited_json(rng, header)
    if rng.integers(8) == 0:
        header = header[:-1] + "," + header[1:]  # every name twice
    made = header.encode()
    return len(made).to_bytes(8, "little") + made + values


def toml_value(rng: Rng, data: bytes) -> bytes:
    """What is right of one equals sign, or a key."""
    text = data.decode()
    found = list(re.finditer(r"(?m)^(.*?) = (.*)$", text))
    match = any_of(rng, found)
    odd = _odd(rng).replace("null", "nan").replace("{", "{ ").replace(":", " =")
    way = rng.integers(4)
    if way == 0:  # a key twice, or a table in place of it
        return (text + "\n" + match[0]).encode()
    if way == 1:
        key = any_of(rng, ("a", "a." * any_of(rng, (2, 2000)) + "b", '"../x"', "family", "fit"))
        return (text[: match.start(1)] + key + text[match.end(1) :]).encode()
    return (text[: match.start(2)] + odd + text[match.end(2) :]).encode("utf-8", "surrogatepass")


def packed(inside: Mutation) -> Mutation:
    """A gzip file whose content is edited; rarely one that unpacks to a thousand times its size."""

    def edit(rng: Rng, data: bytes) -> bytes:
        if rng.random() < RARE / 4:
            block = gzip.compress(gzip.decompress(data)[:64] + bytes(1 << 24), 1)
            return block * (BOMB >> 24)
        return gzip.compress(inside(rng, gzip.decompress(data)), 1)

    return edit


def sealed(inside: Mutation) -> Mutation:
    """The same with the checksum that belongs to it, else no edit would come further than that."""

    def edit(rng: Rng, data: bytes) -> bytes:
        body = inside(rng, data)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")

    return edit


def _edited_json(rng: Rng, text: str) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        root = [json.loads(text)]
        place, key = _node(rng, root)
        way = rng.integers(8)
        if way == 0:
            del place[key]
        elif way == 1 and isinstance(place, dict):
            place[any_of(rng, ("", "a", "../x", "__metadata__", "0"))] = place.pop(key)
        else:
            place[key] = PLACE
        made = json.dumps(root[0] if root else None)
        return made.replace(json.dumps(PLACE), _odd(rng))
    return text


def _node(rng: Rng, root: Any) -> tuple[Any, Any]:
    """A place anywhere in a tree of lists and dicts: what holds it, and its key or index."""
    holder, key = root, 0
    while isinstance(holder[key], dict | list) and holder[key] and rng.integers(5):
        holder = holder[key]
        key = any_of(rng, list(holder) if isinstance(holder, dict) else range(len(holder)))
    return holder, key


def _odd(rng: Rng) -> str:
    return any_of(rng, HUGE) if rng.random() < RARE else any_of(rng, ODD)
