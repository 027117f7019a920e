"""Scalars are a group's entries, in order and by ArviZ's labels; what is absent is named."""

import numpy as np
import pytest

from pyro_sws.assess.draws.inference_data import inference_data
from pyro_sws.assess.draws.scalar_draws import check_spread, scalar_draws

X = np.arange(24.0).reshape(1, 4, 2, 3)


def tree(method="nuts", **posterior):
    return inference_data({"posterior": posterior}, inference_method=method)


def test_scalars_are_the_entries_in_order():
    scalars = scalar_draws(tree(x=X, y=X[..., 0, 0]), ["y", "x"])
    assert scalars.labels == ("y", *(f"x[{i}, {j}]" for i in range(2) for j in range(3)))
    np.testing.assert_array_equal(scalars.flat[:, 0], X[0, :, 0, 0])
    np.testing.assert_array_equal(scalars.flat[:, 1:], X.reshape(4, 6))


def test_coordinates_are_the_entries_names():
    named = inference_data(
        {"posterior": {"means": X[..., 0]}},
        inference_method="nuts",
        dims={"means": ["component"]},
        coords={"component": ["spike", "slab.0"]},
    )
    assert scalar_draws(named).labels == ("means[spike]", "means[slab.0]")


def test_draws_of_all_chains_follow_each_other():
    scalars = scalar_draws(tree(x=np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert scalars.flat.ravel().tolist() == [1, 2, 3, 4]


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="no group 'prior'; its groups: posterior"):
        scalar_draws(tree(x=X), group="prior")
    with pytest.raises(ValueError, match="no variable 'y'; choose from x"):
        scalar_draws(tree(x=X), ["y"])
    with pytest.raises(ValueError, match="no variables of group 'posterior' were chosen"):
        scalar_draws(tree(x=X), [])
    with pytest.raises(ValueError, match=r"posterior\['x'\] has 1 entries that are not finite"):
        scalar_draws(tree(x=np.array([[0, 1, 2, np.nan]])))


@pytest.mark.parametrize(("method", "shape"), [("delta", (4, 9)), ("nuts", (1, 1))])
def test_a_point_has_no_spread(method, shape):
    with pytest.raises(ValueError, match="a point has no spread: a picture would mean nothing"):
        check_spread(tree(method, x=np.zeros(shape)), "a picture")
    check_spread(tree("nuts", x=np.zeros((1, 2))), "a picture")
