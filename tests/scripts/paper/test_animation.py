"""The film of a run is of the fit that the run made."""

import numpy as np

from pyro_sws.runs.run import Run


def test_the_film_is_of_the_fit_that_the_run_made(script, folder):
    frames = script("paper.animation").frames(folder)
    run = Run.open(folder)
    assert [frame["epoch"] for frame in frames] == [0, 1, 2]
    for frame, mixtures in zip(frames[1:], run.history, strict=True):
        assert frame["means"] == mixtures["mixtures"]["all"]["means"]
    edges = np.array(frames[-1]["edges"])
    counts = np.histogram(run.posterior.point["all.weights"].numpy(), edges)[0]
    assert frames[-1]["counts"] == counts.tolist()
