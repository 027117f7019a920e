"""The calibration figure shows what the numbers say, of any predictions."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from predictions import drawn, two_class

from pyro_sws.assess.figures.calibration import FEWEST_IN_A_BIN, FEWEST_KEPT, calibration_figure
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.point.calibration import calibration, rejection, reliability

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def stages():
    return {"trained": drawn(), "snapped": drawn(sharpen=3.0)}


def test_points_lie_at_each_bins_accuracy(stages):
    diagram = calibration_figure(stages).axes[0]
    for container, found in zip(diagram.containers, stages.values(), strict=True):
        bins = reliability(found, 10, "equal_width")
        drawn = bins.counts >= FEWEST_IN_A_BIN
        x, y = container.lines[0].get_data()
        np.testing.assert_allclose(y, bins.accuracy[drawn])
        np.testing.assert_allclose(x, bins.confidence[drawn], atol=0.02)
        ends = np.array([part[:, 1] for part in container.lines[2][0].get_segments()])
        np.testing.assert_allclose(ends, np.stack([bins.low, bins.high], axis=1)[drawn])


def test_the_curve_is_that_of_rejection_until_few_are_kept(stages):
    curve = calibration_figure(stages).axes[2]
    for line, found in zip(curve.lines, stages.values(), strict=False):
        kept = rejection(found)
        share, accuracy = line.get_data()
        assert len(share) == len(found) - FEWEST_KEPT + 1
        np.testing.assert_array_equal(accuracy, kept.accuracy[: len(share)])
        np.testing.assert_array_equal(share, kept.rejected[: len(share)])


def test_the_strip_counts_every_example(stages):
    strip = calibration_figure(stages).axes[1]
    assert [patch.get_data().values.sum() for patch in strip.patches] == [2000, 2000]


def test_the_legend_says_the_numbers(stages):
    (legend,) = calibration_figure(stages).legends
    for text, (label, found) in zip(legend.get_texts(), stages.items(), strict=True):
        told = calibration(found)
        assert text.get_text().startswith(f"{label}: accuracy {100 * told.accuracy:.2f} %")
        assert f"ECE {100 * told.ece:.2g} %" in text.get_text()


@pytest.mark.parametrize(
    "found",
    [two_class([0.9], [1]), two_class([1.0] * 60, [1] * 60), two_class([0.5] * 8, [0] * 8)],
)
def test_any_predictions_can_be_drawn(found):
    assert as_png(calibration_figure({"one": found}, "A title"), dpi=30).startswith(PNG)


def test_no_stage_and_more_than_there_are_colours_are_refused(stages):
    with pytest.raises(ValueError, match="1 to 4 stages, got 0"):
        calibration_figure({})
    with pytest.raises(ValueError, match="got 5"):
        calibration_figure({str(i): stages["trained"] for i in range(5)})


def test_matplotlib_is_left_as_it_was(stages):
    settings, opened = dict(matplotlib.rcParams), pyplot.get_fignums()
    as_png(calibration_figure(stages), dpi=30)
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == opened
