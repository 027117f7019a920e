"""Whatever stands in a recipe, it is read, or refused in one line that names the key."""

import copy
import dataclasses
import enum
from collections.abc import Mapping
from typing import Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_recipe import EVERYTHING, table, write_recipe

from pyro_sws.inference.hyperpriors import Beta, Gamma
from pyro_sws.recipes.recipe import named_plan
from pyro_sws.recipes.sources import Source
from pyro_sws.recipes.tables import fields_of, table_type
from pyro_sws.recipes.validation import check


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Odd:
    """What a dataclass of one's own may hold."""

    colour: Colour = Colour.RED
    pair: Pair = Pair(0.0, 1.0)
    many: list[Gamma | Beta | list[int]] | None = None
    mapped: Mapping[str, Gamma | Mapping[str, int]] | float = 1.0
    either: Literal["a", 3] | dict[int, str] | tuple[int, str] = "a"
    anything: object = None


def parts(value, path=()):
    """The paths of all that is in a table."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from parts(inner, (*path, key))


def put(whole, path, value):
    changed = copy.deepcopy(whole)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def refused(read):
    """What is raised, if anything."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return None


OWN = {"prior": [{"family": "own.py:Narrow", "slabs": 2}], "fit": {"rates": {"means": 0.5}}}
RECIPES = [table(**EVERYTHING), table(**OWN, epochs=None), table(density={"way": "portable"})]
PLACES = [(whole, path) for whole in RECIPES for path in parts(whole)]
leaves = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.sampled_from(["x", "free", "a:b", "grid", ""])
)
names = st.sampled_from(["x", "family", "source", "shape", "slabs", "way", "0", "made_in_python"])
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3), max_leaves=6
)


@given(st.sampled_from(PLACES), values)
def test_any_value_at_any_key_is_read_or_refused_in_one_line(place, value):
    whole, path = place
    message = refused(lambda: named_plan(put(whole, path, value), Source))
    assert message is None or "\n" not in message
    if message is not None:
        assert str(path[0]) in message, message


@given(st.sampled_from([f.name for f in dataclasses.fields(Odd)]), values)
def test_so_is_any_value_of_any_type_that_one_s_own_may_have(key, value):
    message = refused(lambda: check(table_type("Odd", fields_of(Odd)), {key: value}, "prior[0]"))
    assert message is None or message.startswith("prior[0]") and key in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"many": [{"shape": 1.0, "rat": 1.0}]}, "o.many[0]: unknown key 'rat', did you mean 'rat"),
        ({"many": [{"zeros": 1.0}]}, "o.many[0]: missing key 'nonzeros'; it has nonzeros, zeros"),
        ({"many": [["x"]]}, "o.many[0][0]: must be a whole number, got 'x'"),
        ({"mapped": {"a": 3}}, "o.mapped.a: must be a Gamma table or a table, got 3"),
        ({"mapped": {"a": {"b": "x"}}}, "o.mapped.a.b: must be a whole number, got 'x'"),
        ({"either": [1, 2]}, "o.either[1]: must be a string, got 2"),
        ({"either": "b"}, "o.either: must be 'a' or 3 or a table or a list, got 'b'"),
        ({"pair": [1.0, "x"]}, "o.pair[1]: must be a number, got 'x'"),
        ({"colour": "rde"}, "o.colour: must be 'red', got 'rde'"),
    ],
)
def test_the_key_is_found_through_lists_tables_and_alternatives(fields, message):
    found = refused(lambda: check(table_type("Odd", fields_of(Odd)), fields, "o"))
    assert found is not None and found.startswith(message), found


def test_a_value_that_is_right_comes_back_as_it_is(tmp_path):
    write_recipe(tmp_path)
    given_fields = {"many": [{"zeros": 1, "nonzeros": 2.0}, [3]], "either": [1, "b"]}
    read = check(table_type("Odd", fields_of(Odd)), given_fields)
    assert (read.many, read.either, read.pair) == ([Beta(1.0, 2.0), [3]], (1, "b"), Pair(0.0, 1.0))
