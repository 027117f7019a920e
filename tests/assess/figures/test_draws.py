"""The pictures show the draws that are there, and leave matplotlib as they found it."""

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from pyro_sws.assess.draws.inference_data import inference_data
from pyro_sws.assess.figures.draws import forest, pairs, ranks, save_figure, trace

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 100, 2)) * [1.0, 0.1]
PICTURES = forest, trace, ranks, pairs


def tree(x=X, method="nuts"):
    return inference_data({"posterior": {"x": x}}, inference_method=method)


def intervals(axes, gid):
    (lines,) = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_gid() == gid]
    return np.array([segment[:, 0] for segment in lines.get_segments()])


def test_a_forest_has_each_scalar_s_median_and_shortest_intervals():
    (axes,) = forest(tree(), ci_prob=0.9).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x[0]", "x[1]"]
    (medians,) = [line for line in axes.lines if line.get_gid() == "median"]
    np.testing.assert_allclose(medians.get_xdata(), np.median(X, axis=(0, 1)))
    for gid, prob in (("0.9", 0.9), ("0.5", 0.5)):
        for (low, high), draws in zip(intervals(axes, gid), X.reshape(200, 2).T, strict=True):
            inside = (draws >= low) & (draws <= high)
            assert inside.mean() == pytest.approx(prob, abs=0.01)


def test_intervals_too_narrow_to_see_are_shown_again_around_their_medians():
    apart = tree(X * 1e-3 + [0.0, 5.0])
    first, second = forest(apart, ci_prob=0.9).axes
    for gid in ("0.9", "0.5"):
        medians = np.median(X * 1e-3 + [0.0, 5.0], axis=(0, 1))
        around = intervals(first, gid) - medians[:, None]
        np.testing.assert_allclose(intervals(second, gid), around, atol=1e-12)


def test_a_trace_has_every_chain_s_draws_in_their_order():
    figure = trace(tree())
    panels = np.array(figure.axes).reshape(2, 2)
    for scalar, (left, right) in enumerate(panels):
        assert left.get_title(loc="left") == f"x[{scalar}]"
        for chain, (stairs, line) in enumerate(zip(left.patches, right.lines, strict=True)):
            np.testing.assert_array_equal(line.get_ydata(), X[chain, :, scalar])
            assert stairs.get_data().values.sum() == 100
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["chain 0", "chain 1"]


def test_ranks_are_even_where_chains_agree_and_apart_where_they_do_not():
    apart = X.copy()
    apart[1, :, 1] += 100
    together, separate = ranks(tree(apart)).axes
    for axes in (together, separate):
        counts = np.array([stairs.get_data().values for stairs in axes.patches[-2:]])
        np.testing.assert_allclose(counts.sum(0), 20)  # 200 draws in 10 bins
        np.testing.assert_allclose(counts.sum(1), 100)
    counts = np.array([stairs.get_data().values for stairs in separate.patches[-2:]])
    np.testing.assert_array_equal(counts, np.repeat([[20, 0], [0, 20]], 5, axis=1))
    (band,) = together.patches[:-2]
    # Of 20 draws that each chain has half of, without replacement: 10 +- 3 sqrt(20 / 4 * 0.9).
    assert band.get_y() == pytest.approx(10 - 3 * np.sqrt(4.5))
    assert band.get_height() == pytest.approx(6 * np.sqrt(4.5))


def test_pairs_are_each_scalar_against_each_other():
    figure = pairs(tree())
    assert len(figure.axes) == 3
    (cloud,) = [line for axes in figure.axes for line in axes.lines]
    np.testing.assert_array_equal(cloud.get_xydata(), X.reshape(200, 2))
    assert (cloud.axes.get_xlabel(), cloud.axes.get_ylabel()) == ("x[0]", "x[1]")


def test_of_many_pairs_only_the_outer_panels_have_numbers_and_long_names_take_two_lines():
    draws = {"deviations[slab.0]": X[..., 0], "y": X[..., 1], "slab_precision_rate": X[..., 0]}
    figure = pairs(inference_data({"posterior": draws}, inference_method="nuts"))
    panels = {
        (ax.get_subplotspec().rowspan[0], ax.get_subplotspec().colspan[0]): ax for ax in figure.axes
    }
    for (row, column), axes in panels.items():
        shown = (
            axes.xaxis.get_tick_params()["labelbottom"],
            axes.yaxis.get_tick_params()["labelleft"],
        )
        assert shown == (row == 2, column == 0)
    names = [panels[2, column].get_xlabel() for column in range(3)]
    assert names == ["deviations\n[slab.0]", "y", "slab_precision\n_rate"]


@pytest.mark.parametrize("picture", PICTURES)
def test_one_scalar_or_one_that_never_moves_is_drawn(picture, tmp_path):
    still = np.stack([X[..., 0], np.full((2, 100), 0.999)], axis=-1)
    for i, x in enumerate((X[..., 0], still)):
        save_figure(picture(tree(x)), tmp_path / f"{i}.png", dpi=20)
        assert (tmp_path / f"{i}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("picture", PICTURES)
def test_points_and_crowds_are_refused(picture):
    with pytest.raises(ValueError, match="a point has no spread: a picture of draws"):
        picture(tree(X, "delta"))
    with pytest.raises(ValueError, match="100 scalars are too many.*by var_names"):
        picture(tree(np.zeros((2, 5, 100))))


def test_ranks_of_one_chain_are_refused():
    with pytest.raises(ValueError, match="ranks compare chains"):
        ranks(tree(X[:1]))


def test_a_figure_is_written_in_the_format_of_its_path_or_not_at_all(tmp_path):
    figure = forest(tree())
    save_figure(figure, tmp_path / "forest.svg")
    assert b"<svg" in (tmp_path / "forest.svg").read_bytes()
    with pytest.raises(ValueError, match=r"forest.txt: end its name in .png, .svg, .pdf"):
        save_figure(figure, tmp_path / "forest.txt")
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_figure(figure, tmp_path / "absent" / "forest.png")


@pytest.mark.integration
def test_drawing_leaves_settings_and_backend_as_they_were(tmp_path):
    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)
    for picture in PICTURES:
        save_figure(picture(tree()), tmp_path / "picture.png", dpi=20)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend(auto_select=False) == backend
