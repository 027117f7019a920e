"""Particles side by side are as if each were alone."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_sws.inference.particles import ByParticle, plates_around, run_each


def program():
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    assert a.shape == (2,), "as if alone"
    b = pyro.sample("b", dist.Normal(a.sum(), 2.0))
    return a.sum() + b


def test_a_later_site_depends_on_its_own_particle_only():
    with torch.random.fork_rng(), pyro.plate("many", 4, dim=-2), poutine.trace() as run:
        results = run_each([program] * 4, plates_around())
    run.trace.compute_log_prob()
    a, b = (run.trace.nodes[name] for name in "ab")
    assert a["value"].shape == (4, 1, 2) and b["value"].shape == (4, 1)
    torch.testing.assert_close(torch.stack(results), (a["value"].sum(-1) + b["value"])[:, 0])
    alone = torch.distributions.Normal(a["value"].sum(-1), 2.0).log_prob(b["value"])
    torch.testing.assert_close(b["log_prob"], alone)


def test_two_plates_around_make_particles_of_all_pairs():
    outer, inner = pyro.plate("outer", 2, dim=-3), pyro.plate("inner", 3, dim=-2)
    with torch.random.fork_rng(), outer, inner, poutine.trace() as run:
        results = run_each([program] * 6, plates_around())
    assert run.trace.nodes["b"]["value"].shape == (2, 3, 1) and len(results) == 6


def test_particles_whose_sites_differ_are_refused():
    def one():
        return pyro.sample("one", dist.Normal(0.0, 1.0))

    def other():
        return pyro.sample("other", dist.Normal(0.0, 1.0))

    with pyro.plate("many", 2, dim=-2):
        with pytest.raises(ValueError, match="sites differ from particle to particle.*one, other"):
            run_each([one, other], plates_around())
        with pytest.raises(ValueError, match="sites differ"):
            run_each([one, lambda: None], plates_around())


def test_a_scale_and_a_mask_in_a_program_count_for_each_particle():
    def scaled():
        with poutine.scale(scale=3.0), poutine.mask(mask=torch.tensor(True)):
            return pyro.sample("x", dist.Normal(0.0, 1.0))

    with torch.random.fork_rng(), pyro.plate("many", 2, dim=-2), poutine.trace() as run:
        run_each([scaled] * 2, plates_around())
    run.trace.compute_log_prob()
    site = run.trace.nodes["x"]
    expected = 3 * torch.distributions.Normal(0.0, 1.0).log_prob(site["value"])
    torch.testing.assert_close(site["log_prob"], expected)


def test_plates_that_overlap_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        ByParticle([dist.Normal(torch.zeros(2, 3), 1.0)] * 4, torch.Size([4, 1]))


def test_without_plates_there_is_one():
    assert plates_around() == torch.Size() and plates_around().numel() == 1
