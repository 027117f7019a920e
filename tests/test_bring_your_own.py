"""The page on one's own network and data does what it says, from its first line to its last."""

import re
import shlex
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import pyro_sws as sws
from pyro_sws import cli

PAGE = (Path(__file__).parents[1] / "docs" / "bring-your-own.md").read_text()
BLOCKS = re.findall(r"```(python|toml|sh)\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.slow


def file_of(block):
    """The file that a block is, by its first line; None for one that is run."""
    found = re.match(r"# (\S+\.(?:py|toml))\n", block)
    return found and found[1]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What is there after the page was followed in an empty folder: its names, and the folder."""
    folder = tmp_path_factory.mktemp("page")
    names = {"__name__": "page", "print": lambda *words: None}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        for language, block in BLOCKS:
            if path := file_of(block):
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(block)
            elif language == "python":
                exec(block, names)
            else:
                for line in block.strip().splitlines():
                    command, *arguments = shlex.split(line)
                    assert command == "pyro-sws"
                    done = CliRunner().invoke(cli.app, arguments)
                    assert done.exit_code == 0, done.output + repr(done.exception)
    return names, folder


def error(net, batches):
    with torch.no_grad():
        wrong = sum(int((net(x).argmax(1) != y).sum()) for x, y in batches)
    return 100 * wrong / len(batches.dataset)


def test_the_network_keeps_its_score_in_a_file_many_times_smaller(followed):
    names, folder = followed
    report = names["result"].report
    assert (folder / "rings.sws").read_bytes() == names["result"].data
    assert report.ratio > 10
    assert report.score["before"] < 10 and report.score["decoded"] < report.score["before"] + 3
    assert error(names["again"], names["test"]) == pytest.approx(report.score["decoded"])


def test_the_recipe_makes_a_run_that_loads_into_its_network(followed):
    _, folder = followed
    run = sws.Run.open(folder / "runs" / "rings")
    assert run.report.network == "factory" and run.report.data["validation"] == 1000
    assert run.report.score["decoded"] <= run.report.score["before"] + 1.0
    assert (folder / "rings.safetensors").exists()


def test_a_network_trained_under_the_prior_is_snapped_as_it_is(followed):
    names, _ = followed
    run = names["snapped"]
    weights = dict(names["net"].named_parameters())
    assert all(torch.equal(w, weights[n].detach()) for n, w in run.posterior.weights.items())
    assert run.report.ratio > 10


def test_a_refinement_from_there_shortens_the_whole_description(followed):
    names, _ = followed
    snapped, refined = (names[name].report for name in ("snapped", "refined"))
    assert refined.ratio > 10
    assert refined.description["total_bits"] < snapped.description["total_bits"]


def test_the_exported_program_is_the_quantised_network(followed):
    names, folder = followed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own reader
        program = torch.export.load(folder / "rings.pt2").module()
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(program(points), names["again"](points), rtol=1e-4, atol=1e-4)


def test_a_network_trained_under_the_prior_is_no_worse_and_its_walk_keeps_it(followed):
    names, _ = followed
    walked = names["walked"].report
    assert walked.score["before"] < names["result"].report.score["before"] + 3
    assert walked.score["decoded"] < walked.score["before"] + 3 and walked.ratio > 8
