"""The main job on a GPU against the CPU; skipped where there is none."""

import copy

import pytest
import torch
from problems import EVERY_HYPERPRIOR, ONE_GROUP, classifier
from small_recipe import write_recipe
from torch import nn

import pyro_sws as sws
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.weights.density.log_density import density_backend, log_density

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("way", ["portable", "compiled"])
def test_the_density_and_its_gradients_are_those_of_double_precision(way):
    generator = torch.Generator().manual_seed(0)
    means = torch.linspace(-0.5, 0.5, 17, dtype=torch.float64)
    exact = [
        0.2 * torch.randn(300_000, generator=generator, dtype=torch.float64),
        means,
        torch.linspace(100, 2500, 17, dtype=torch.float64),
        means.log_softmax(0),
    ]
    with density_backend("portable"):
        wanted = gradients(exact)
    with density_backend(way):
        found = gradients([v.float().cuda() for v in exact])
    for one, other in zip(found, wanted, strict=True):
        assert (one.double().cpu() - other).abs().max() <= 1e-4 * other.abs().max()


def gradients(values):
    values = [v.requires_grad_() for v in values]
    total = log_density(*values)
    return total.detach(), *torch.autograd.grad(total, values)


@pytest.mark.parametrize("prior", [ONE_GROUP, EVERY_HYPERPRIOR], ids=["one group", "hyperpriors"])
def test_a_fit_is_the_cpus_but_for_rounding(prior):
    net, inputs, targets = classifier()
    points = []
    for device in ("cpu", "cuda"):
        model = sws.joint(net, prior, "categorical", len(inputs), tau=0.1, device=device)
        found = sws.fit(model, sws.delta_guide(model), [(inputs, targets)], epochs=20)
        points.append({site: value.cpu() for site, value in found.posterior.point.items()})
    for site, value in points[0].items():
        torch.testing.assert_close(points[1][site], value, rtol=1e-3, atol=1e-4)


def test_the_file_holds_the_network_bit_for_bit():
    net, inputs, targets = images()
    before = copy.deepcopy(net.state_dict())
    generators = torch.get_rng_state(), torch.cuda.get_rng_state()
    result = compressed(net, inputs, targets)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert torch.equal(torch.cuda.get_rng_state(), generators[1])
    loaded = sws.load(result.data, into=net)
    for name, tensor in result.decoded.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.cpu())
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert result.report.score["data"] == "test"


def test_bfloat16_for_the_network_leaves_weights_in_float32():
    net, inputs, targets = images()
    result = compressed(net, inputs, targets, density=sws.Density(autocast="bfloat16"))
    assert all(weights.dtype == torch.float32 for weights in result.posterior.weights.values())


def test_a_network_that_is_there_already_stays_there():
    net, inputs, targets = images()
    net = net.cuda()
    result = compressed(net, inputs, targets, device=None)
    assert all(parameter.device.type == "cuda" for parameter in net.parameters())
    assert sws.load(result.data, into=net)(inputs.cuda()).shape == (60, 3)


def images():
    """Convolutions, dropout and batch norm, and 60 images of 3 classes."""
    _, inputs, targets = classifier()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Flatten(), nn.Linear(144, 3)
        )
    return net, inputs.repeat(1, 16).view(60, 1, 8, 8), targets


def compressed(net, inputs, targets, device="cuda", **options):
    batches = sws.Batches(inputs, targets, 20, augment=lambda x: x.flip(-1))
    return sws.compress(
        net,
        batches,
        likelihood=sws.Distilled(),
        refinement=sws.Refinement(epochs=2),
        test=[(inputs, targets)],
        epochs=3,
        device=device,
        **options,
    )


def test_a_recipe_runs_there_and_its_folder_is_read_without(tmp_path):
    path = write_recipe(tmp_path, device="cuda", refinement={"epochs": 2})
    result = run_recipe(read_recipe(path), tmp_path / "run")
    decoded = sws.load(tmp_path / "run" / "model.sws", into=result.network.cpu())
    state = result.decoded.state_dict()
    assert all(
        torch.equal(value, state[name].cpu()) for name, value in decoded.state_dict().items()
    )
