"""Fits of a study: where each is kept."""


def test_a_fit_is_kept_under_all_that_it_depends_on(script, tmp_path):
    fit = script("priors.fits").Fit
    one = fit("digits", {"family": "grid"}, 0.01)
    others = [
        fit("digits", {"family": "grid"}, 0.02),
        fit("digits", {"family": "grid", "steps": 4}, 0.01),
        fit("digits", {"family": "grid"}, 0.01, seed=1),
        fit("digits", {"family": "grid"}, 0.01, held_out=True),
    ]
    places = {f.path(tmp_path) for f in [one, *others]}
    assert len(places) == 5
    one.path(tmp_path).write_text('{"file_bytes": 7}')
    assert one.row(tmp_path) == {"file_bytes": 7}
