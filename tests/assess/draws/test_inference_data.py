"""The tree is checked, comes back from a file bit for bit, and is what either ArviZ reads."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from pyro_sws.assess.draws.inference_data import (
    ALONGSIDE,
    DRAWN,
    FIXED,
    arviz,
    as_arviz,
    before_1,
    inference_data,
    load_netcdf,
    save_netcdf,
)

RNG = np.random.default_rng(0)
DIMS, COORDS = {"all.means": ["component"]}, {"component": ["spike", "slab é"]}


def every_group():
    """All groups, of awkward numbers and types."""
    awkward = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1 / 3])
    drawn = {name: {"x": RNG.normal(size=(2, 3, 4))} for name in DRAWN}
    drawn["posterior"] = {
        "all.means": RNG.normal(size=(2, 3, 2)).astype("float32"),
        "all.tau": np.tile(awkward[:3], (2, 1)),
    }
    drawn["prior"]["x"] = RNG.normal(size=(1, 50))
    fixed = {
        "observed_data": {"targets": np.array([3, 250], "uint8")},
        "constant_data": {"zero": np.array([True, False]), "inputs": awkward},
        "point_estimate": {"all.means": np.array([0.0, 1.0]), "all.tau": 0.25},
    }
    return drawn | fixed


def whole(**settings):
    return inference_data(
        every_group(), inference_method="nuts", tau=0.03, dims=DIMS, coords=COORDS, **settings
    )


def draws(**shapes):
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def test_every_array_is_where_it_was_put():
    given = every_group()
    tree = inference_data(given, inference_method="nuts", dims=DIMS, coords=COORDS)
    assert set(tree.children) == set(DRAWN + FIXED) == set(given)
    for group, variables in given.items():
        for name, values in variables.items():
            assert tree[group][name].dtype == np.asarray(values).dtype
            np.testing.assert_array_equal(tree[group][name].values, values)
    assert tree["posterior"]["all.means"].dims == ("chain", "draw", "component")
    assert tree["point_estimate"]["all.means"].sel(component="slab é") == 1
    assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "x_dim_0")
    assert list(tree["prior"]["draw"].values) == list(range(50))


def test_attrs_say_how_the_draws_came_about_and_nothing_that_was_not_given():
    assert whole().attrs == {"inference_method": "nuts", "tau": 0.03}
    attrs = whole(versions={"pyro": "1.9.2"}, created_at="2017-05-09").attrs
    assert attrs.keys() == {"inference_method", "tau", "pyro_version", "created_at"}
    assert (attrs["pyro_version"], attrs["created_at"]) == ("1.9.2", "2017-05-09")


def test_a_tree_goes_to_a_file_and_back_bit_for_bit(tmp_path):
    tree = whole(versions={"pyro": "1.9.2"})
    save_netcdf(tree, tmp_path / "tree.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["tree.nc"]
    back = load_netcdf(tmp_path / "tree.nc")
    xr.testing.assert_identical(back, tree)
    for group in tree.children:
        for name, values in tree[group].data_vars.items():
            found = back[group][name].values
            assert (found.dtype, found.tobytes()) == (values.dtype, values.values.tobytes()), name


def test_a_file_that_was_read_can_be_replaced(tmp_path):
    path = tmp_path / "tree.nc"
    save_netcdf(whole(), path)
    back = load_netcdf(path)
    save_netcdf(back, path)
    xr.testing.assert_identical(load_netcdf(path), back)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "tree.nc"
    path.write_bytes(b"old")
    tree = whole()
    tree.attrs["bad"] = {"a": "mapping"}
    with pytest.raises(TypeError):
        save_netcdf(tree, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_netcdf(whole(), tmp_path / "absent" / "tree.nc")


def test_what_is_no_such_file_is_not_read(tmp_path):
    (tmp_path / "tree.nc").write_bytes(b"not netCDF")
    with pytest.raises(OSError):
        load_netcdf(tmp_path / "tree.nc")
    with pytest.raises(FileNotFoundError):
        load_netcdf(tmp_path / "absent.nc")


def test_the_installed_arviz_has_every_group_and_number():
    tree, az = whole(), arviz()
    found = as_arviz(tree)
    assert type(found).__name__ == ("InferenceData" if before_1(az) else "DataTree")
    for group in tree.children:
        for name, values in tree[group].data_vars.items():
            xr.testing.assert_identical(found[group][name], values)
    assert found.attrs == tree.attrs
    rhat = az.rhat(found, var_names=["all.means"])["all.means"]
    assert rhat.dims == ("component",)


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        ({"posteriors": draws(x=(1, 5))}, {}, "unknown group 'posteriors'; choose from posterior,"),
        ({"prior": {}}, {}, "group 'prior' has no variables; leave it out"),
        ({"prior": draws(x=(5,))}, {}, r"prior\['x'\] has shape \(5,\); draws are \(chain, draw"),
        ({"prior": draws(x=(1, 0))}, {}, "at least one of each"),
        (
            {"posterior": draws(x=(2, 5), y=(2, 6))},
            {},
            r"posterior\['y'\] has shape \(2, 6\): 6 along 'draw', where 'x' has 5",
        ),
        (
            {"posterior": draws(x=(1, 5, 3), y=(1, 5, 2))},
            {"dims": {"x": ["k"], "y": ["k"]}},
            r"posterior\['y'\] has shape \(1, 5, 2\): 2 along 'k', where 'x' has 3",
        ),
        (
            {"posterior": draws(x=(1, 5, 3))},
            {"dims": {"x": ["k"]}, "coords": {"k": ["a", "b"]}},
            r"coords\['k'\] has shape \(2,\), but posterior\['x'\] has 3 entries along 'k'",
        ),
        (
            {"posterior": draws(x=(1, 5, 3))},
            {"dims": {"x": ["k", "l"]}},
            r"has 1 dimensions after \(chain, draw\), shape \(1, 5, 3\); dims names \['k', 'l'\]",
        ),
        ({"prior": draws(x=(1, 5))}, {"dims": {"y": []}}, "dims has 'y', but the variables are x"),
        (
            {"prior": draws(x=(1, 5, 1))},
            {"dims": {"x": ["k"]}, "coords": {"l": [1]}},
            "coords has 'l', but the dimensions are k",
        ),
        ({"prior": draws(x=(1, 5, 1))}, {"dims": {"x": ["draw"]}}, "dimensions must differ"),
        ({"prior": draws(x=(1, 5, 1))}, {"dims": {"x": ["x"]}}, "dimensions must differ"),
        ({"prior": draws(x=(1, 5, 1, 1))}, {"dims": {"x": ["k", "k"]}}, "dimensions must differ"),
        ({"prior": {"x": [["a"]]}}, {}, "must hold real numbers or truth values, got <U1"),
        ({"prior": {"a/x": [[1.0]]}}, {}, "write '.'"),
        ({"prior": draws(x=(1, 5))}, {"tau": 0.0}, "tau must be a finite number above 0, got 0.0"),
        ({"prior": draws(x=(1, 5))}, {"inference_method": ""}, "inference_method must be a name"),
    ],
)
def test_what_does_not_go_together_is_named(groups, settings, message):
    with pytest.raises(ValueError, match=message):
        inference_data(groups, **{"inference_method": "nuts"} | settings)


@pytest.mark.parametrize("group", ALONGSIDE)
def test_what_belongs_to_a_draw_must_be_there_for_each(group):
    groups = {"posterior": draws(x=(1, 5)), group: draws(y=(1, 6))}
    with pytest.raises(ValueError, match=r"\(1, 6\) chains and draws, the posterior \(1, 5\)"):
        inference_data(groups, inference_method="nuts")


@pytest.mark.integration
def test_arviz_is_imported_without_a_warning_and_leaves_matplotlib_s_settings():
    # 0.23 warns at its first import of a day, which a fresh cache folder makes it.
    check = (
        "import os, sys, tempfile, warnings, matplotlib; warnings.simplefilter('error')\n"
        "os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp()\n"
        "before = dict(matplotlib.rcParams)\n"
        "from pyro_sws.assess.draws.inference_data import arviz; arviz()\n"
        "sys.exit(str([k for k, v in before.items() if matplotlib.rcParams[k] != v]))"
    )
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert found.stderr.strip() == "[]"
