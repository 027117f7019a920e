"""Several processes give what one gives: in arithmetic, through DDP, and on the command line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import EVERY_HYPERPRIOR, TWO_GROUPS, classifier
from pyro.infer.autoguide.initialization import init_to_value
from safetensors.torch import load_file
from small_recipe import write_recipe
from two_ranks import SETTINGS, fits, gradients, model_and_batches, refined

from pyro_sws.inference.distributed import Ranks, join_ranks
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.guides import DeltaGuide, delta_guide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.subsampling import draw_subset
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe


class NotLean(DeltaGuide):
    """A guide that goes through Pyro's own ELBO."""


HELPERS = Path(__file__).parents[1] / "helpers"
PATHS = os.pathsep.join(map(str, (HELPERS, HELPERS.parents[1])))


def torchrun(*words, cwd):
    """Two processes; once more where one was aborted by its own threads while leaving.

    That was seen once in some fifty launches, after all work was done.
    """
    for _ in range(2):
        done = launched(words, cwd)
        if "terminate called without an active exception" not in done.stderr:
            break
    return done


def launched(words, cwd):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *map(str, words)],
        cwd=cwd,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PATHS,
        },
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(HELPERS / "two_ranks.py", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 70])
@pytest.mark.parametrize("prior", [EVERY_HYPERPRIOR, TWO_GROUPS])
@pytest.mark.parametrize("lean", [True, False])
def test_the_mean_over_the_ranks_is_the_whole(prior, count, lean):
    net, inputs, targets = classifier()
    model = joint(net, prior, "categorical", 60, tau=0.3, dtype=torch.float64)
    batch = (inputs[:31].double(), targets[:31])
    guide = delta_guide(model) if lean else NotLean(model, init_to_value(values=model.start()))
    store = {"params": {}, "constraints": {}}
    with pyro_step(store), torch.no_grad():
        guide(*batch)
    whole = torch.stack(Elbo(model, guide, store)(*batch))
    parts = [
        torch.stack(Elbo(replace(model, ranks=Ranks(rank, count)), guide, store)(*batch))
        for rank in range(count)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-12, atol=0)


@pytest.mark.integration
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_two_processes_gradients_are_those_of_one(two_processes, batch):
    expected = gradients(Ranks(), model_and_batches()[1][batch])
    for rank in range(2):
        found = load_file(two_processes / f"gradients_{batch}_{rank}.safetensors")
        assert found.keys() == expected.keys()
        for site, value in expected.items():
            assert (found[site] - value).norm() <= 1e-5 * value.norm(), site


@pytest.mark.integration
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_fit_what_one_fits(two_processes, name):
    expected = dict(fits(Ranks()))[name]
    found = [load_file(two_processes / f"{name}_{rank}.safetensors") for rank in range(2)]
    for site, value in expected.items():
        assert torch.equal(found[0][site], found[1][site]), f"the ranks part at {site}"
        torch.testing.assert_close(found[0][site], value, rtol=1e-4, atol=1e-6)


@pytest.mark.integration
def test_two_processes_keep_the_same_epoch_of_a_refinement(two_processes):
    found = [load_file(two_processes / f"refined_{rank}.safetensors") for rank in range(2)]
    for site, value in refined(Ranks()).items():
        assert torch.equal(found[0][site], found[1][site]), f"the ranks part at {site}"
        torch.testing.assert_close(found[0][site], value, rtol=1e-3, atol=1e-5)


@pytest.mark.integration
def test_run_works_under_torchrun(tmp_path):
    recipe = write_recipe(tmp_path)
    words = ["--module", "pyro_sws.cli", "run", recipe, "--out", "two", "--overwrite"]
    done = torchrun(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote two") == 1, "one rank speaks"
    expected = run_recipe(read_recipe(recipe), tmp_path / "one").report.to_dict()
    found = json.loads((tmp_path / "two" / "report.json").read_text())
    assert found["file_bytes"] == (tmp_path / "two" / "model.sws").stat().st_size
    assert found["negative_elbo_nats"] == pytest.approx(expected["negative_elbo_nats"], rel=1e-3)
    assert not [p for p in (tmp_path / "two").iterdir() if p.name.startswith(".")]


def test_ranks_of_another_group_are_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    with pytest.raises(ValueError, match="ranks say 2 processes, and the process group has 4"):
        Ranks(0, 2).parallel(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("device", ["cuda:1", "cuda"])
def test_a_device_that_ranks_cannot_have_is_refused(monkeypatch, device):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: "), join_ranks(device):
        pass


def test_every_rank_draws_from_the_generator_alike():
    drawn = []
    for rank in range(3):  # more ranks than weights
        torch.manual_seed(0)
        draw_subset(2, 0.5, Ranks(rank, 3), torch.device("cpu"))
        drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 1


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_ranks() as ranks:
        assert ranks == Ranks(0, 1) and ranks.first
    with pytest.raises(ValueError, match="no process group"):
        Ranks.here()


@pytest.mark.parametrize("rank, count", [(1, 1), (-1, 2), (0, 0)])
def test_a_rank_outside_the_count_is_refused(rank, count):
    with pytest.raises(ValueError, match="rank must be in"):
        Ranks(rank, count)
