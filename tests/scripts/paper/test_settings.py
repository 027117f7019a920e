"""What the paper leaves open: no two trials are one, and each says what it is."""

import pytest

from pyro_sws.recipes.recipe import read_recipe

NETWORK = "lenet_300_100"


@pytest.fixture
def settings(script):
    return script("paper.settings")


def parsed(path, changes):
    return repr(read_recipe(path, changes))


def test_no_two_trials_are_the_same_and_there_are_twenty_or_more(settings):
    for network, path in settings.NETWORKS.items():
        trials = settings.TRIALS[network]
        assert len({parsed(path, changes) for changes in trials.values()}) == len(trials)
    assert len(settings.TRIALS[NETWORK]) >= 20


def test_every_trial_says_which_hyperpriors_it_has(settings):
    """The two networks' recipes differ there, and a trial's name means one thing."""
    for changes in settings.VARIATIONS.values():
        for which in ("spike", "slab"):
            assert any(change.startswith(f"prior.0.{which}_precision=") for change in changes)


def test_no_two_changes_make_the_same_recipe(settings):
    path = settings.NETWORKS[NETWORK]
    recipes = {parsed(path, changes) for changes in [(), *settings.CHANGES.values()]}
    assert len(recipes) == len(settings.CHANGES) + 1


def test_the_wide_residual_network_has_a_recipe(settings):
    recipe = read_recipe(settings.MODELS / "paper" / "wide_resnet_16_4.toml")
    assert recipe.prior[0].prior.slabs == 63
