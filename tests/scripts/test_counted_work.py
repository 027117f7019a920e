"""A compression does its work once: bounds on a fit of 3 epochs and a refinement of 2."""


def test_a_compression_copies_walks_and_encodes_no_more_than_it_needs(script):
    counts = script("counted_work").counted()
    most = {
        "network copies": 3,
        "passes over train": 7,
        "passes over validation": 5,
        "passes over test": 3,
        "encodes": 2,
        "decodes": 1,
    }
    assert {name: counts[name] for name in most if counts[name] > most[name]} == {}
    assert counts["encodes in the search"] > 1  # they are counted where they are
