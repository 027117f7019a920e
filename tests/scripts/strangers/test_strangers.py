"""The script: standard errors by hand, rows that are merged, and the whole line on made data."""

import json
import math
import sys

import pytest
import torch

from pyro_sws.inference.batches import Batches
from pyro_sws.inference.likelihoods import Categorical, Gaussian


@pytest.fixture
def strangers(script):
    return script("strangers.strangers")


@pytest.fixture
def run(strangers, monkeypatch, capsys):
    """The script with these arguments; what it prints."""

    def run(*arguments):
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", ["strangers.py", *map(str, arguments)])
        try:
            strangers.main()
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out

    return run


def test_the_standard_error_of_an_error_is_that_of_a_share(strangers):
    labels = torch.tensor([0] * 7 + [1])  # the network says 0: one mistake of eight
    batches = Batches(torch.tensor([[1.0, 0.0]]).expand(8, 2), labels, shuffle=False)
    found = strangers.evaluated(torch.nn.Identity(), Categorical(), batches)
    share = 2 / 10
    wanted = 100 * math.sqrt(share * (1 - share) / 8)
    assert strangers.standard_error(found, Categorical()) == pytest.approx(wanted)


def test_the_standard_error_of_an_rmse_is_by_the_delta_method(strangers):
    residuals = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    batches = Batches(torch.zeros(5000, 1), residuals, 100, shuffle=False)
    found = strangers.evaluated(torch.nn.Identity(), Gaussian(), batches)
    squares = residuals.square().double()
    wanted = squares.std(correction=0) / math.sqrt(5000) / (2 * squares.mean().sqrt())
    assert strangers.standard_error(found, Gaussian()) == pytest.approx(float(wanted), rel=1e-3)


def test_a_row_takes_the_place_of_its_name_seed_and_call(strangers):
    def row(name, seed, size, given="train"):
        return {"name": name, "seed": seed, "given": given, "bytes": size}

    both = "train, validation"
    rows = []
    for name, seed in [("protein", 0), ("digits_demo", 1), ("digits_demo", 0)]:
        rows = strangers.merged(rows, row(name, seed, 1))
    rows = strangers.merged(rows, row("digits_demo", 1, 3, both))
    assert strangers.merged(rows, row("digits_demo", 1, 2)) == [
        row("digits_demo", 0, 1),
        row("digits_demo", 1, 2),
        row("digits_demo", 1, 3, both),
        row("protein", 0, 1),
    ]


def test_a_collapse_is_a_row_too(strangers, script, monkeypatch, tmp_path):
    def collapsed(*arguments, **more):
        raise FloatingPointError("the loss became nan")

    monkeypatch.setattr(strangers, "compressed", collapsed)
    stranger = strangers.STRANGERS["digits_small"].made()
    row = strangers.measured(stranger, 3, strangers.Asked(None, tmp_path))
    assert row["failed"] == "the loss became nan" and row["seed"] == 3
    table = script("strangers.tables").strangers_table({"rows": [row]}, "source")
    assert "0 of 1" in table and "digits_small, seed 3: the loss became nan" in table


def test_the_list_names_all_and_reads_nothing(strangers, run, monkeypatch):
    monkeypatch.delenv("PYRO_SWS_DATA", raising=False)
    lines = run("--list").splitlines()
    assert [line.split()[0] for line in lines] == list(strangers.STRANGERS)


def test_an_unknown_name_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--names", "digits_small,mnist")
    assert "no stranger mnist; choose from digits_demo" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_line_on_made_data(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PYRO_SWS_DATA", "/nowhere")
    out, table = tmp_path / "rows.json", ""
    for names, seeds in (("diabetes", "0"), ("breast_cancer", "1"), ("diabetes", "0,1")):
        table = run("--smoke", "--names", names, "--seeds", seeds, "--out", out)
    found = json.loads(out.read_text())
    assert [(row["name"], row["seed"]) for row in found["rows"]] == [
        ("breast_cancer", 1),
        ("diabetes", 0),
        ("diabetes", 1),
    ]
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(4 * row["parameters"] / row["bytes"])
        assert row["held_out"]["data"] == "validation"
        rounded = row["rounding"]
        assert rounded["held_out"] <= row["held_out"]["before"] + row["tolerance"]
        assert row["score"]["standard_error"] > 0 and row["provenance"]["date"]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert lines[2].startswith("| MLP 10-32-16-1, diabetes (*) | validation | 897 |") and lines[
        2
    ].endswith("| 2 |")
    assert len({line.count("|") for line in lines}) == 1
