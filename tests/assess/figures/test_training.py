"""The curves pass through both histories, say where one ends, and promise no more than is drawn."""

import torch
from histories import history_of, refinement_of

from pyro_sws.assess.figures.training import training_caption, training_curves
from pyro_sws.weights.mixture import Mixture

MIXTURE = Mixture(torch.tensor([0.0]), torch.tensor([1.0]), torch.ones(1))
REFINED = refinement_of([70.0, 60.0, 40.0, 40.0, 55.0])


def test_the_curves_pass_through_the_history():
    rows = history_of(MIXTURE, validation_posterior=[3, 2, 1], validation_quantized=[9, 5, 2])
    panels = [[line.get_ydata().tolist() for line in a.lines] for a in training_curves(rows).axes]
    assert panels == [[[900, 450, 300]], [[0, -1e4, -2e4]], [[3, 2, 1], [9, 5, 2]]]


def test_without_validation_there_are_two_curves():
    assert len(training_curves(history_of(MIXTURE)).axes) == 2


def lines_of(axes):
    return {
        tuple(line.get_xdata()): list(line.get_ydata())
        for line in axes.lines
        if line.get_gid() is None
    }


def test_the_epochs_of_refinement_come_after_the_fit_s():
    error, complexity, description = training_curves(history_of(MIXTURE), REFINED).axes
    assert lines_of(error) == {(1, 2, 3): [900, 450, 300], (4, 5, 6, 7): [50] * 4}
    assert lines_of(complexity) == {(1, 2, 3): [0, -1e4, -2e4], (4, 5, 6, 7): [2e3] * 4}
    assert lines_of(description) == {(3, 4, 5, 6, 7): [70, 60, 40, 40, 55]}
    assert [axes.get_xlim() for axes in (error, complexity, description)] == [(0.5, 7.5)] * 3


def test_the_border_between_fit_and_refinement_is_marked_in_each_panel():
    for axes in training_curves(history_of(MIXTURE), REFINED).axes:
        (border,) = [line for line in axes.lines if line.get_gid() == "border"]
        assert set(border.get_xdata()) == {3.5}
    for axes in training_curves(history_of(MIXTURE)).axes:
        assert not [line for line in axes.lines if line.get_gid() == "border"]


def test_the_epoch_that_was_kept_is_the_first_of_the_shortest_description():
    description = training_curves(history_of(MIXTURE), REFINED).axes[-1]
    (kept,) = [line for line in description.lines if line.get_gid() == "kept"]
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (5, 40)


def test_scores_are_of_the_fit_and_all_four_panels_are_seen():
    rows = history_of(MIXTURE, validation_posterior=[3, 2, 1], validation_quantized=[9, 5, 2])
    axes = training_curves(rows, REFINED).axes
    assert len([ax for ax in axes if ax.get_visible()]) == 4
    assert lines_of(axes[3]) == {(1, 2, 3): [9, 5, 2]}  # of the two, the later in the mapping


def test_the_caption_promises_what_is_drawn_and_no_more():
    rows = history_of(MIXTURE, validation_posterior=[3, 2, 1], validation_quantized=[9, 5, 2])
    assert training_caption(history_of(MIXTURE)) == "Costs by epoch of the fit."
    assert training_caption(rows) == "Costs and validation scores by epoch of the fit."
    assert "score" not in training_caption(history_of(MIXTURE), REFINED)
    assert "dashed line, refinement" in training_caption(rows, REFINED)
    assert training_caption(rows, REFINED).endswith("It has no validation scores.")
