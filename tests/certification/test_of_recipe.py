"""pyro-sws certify: on the network and the data of a recipe."""

import json

import pytest
from typer.testing import CliRunner

import pyro_sws as sws
from pyro_sws.cli import app

RECIPE = """
network = "nets.py:net"
data = "nets.py:data"
epochs = 2
tau = 0.1
pretraining = { epochs = 3 }
"""
NETS = """
import torch
from torch import nn

def net():
    return nn.Linear(5, 2)

def data():
    x = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return {"train": (x[:300], y[:300]), "test": (x[300:], y[300:])}

def inputs():
    return {"train": data()["train"][0]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("certified")
    (place / "r.toml").write_text(RECIPE)
    (place / "nets.py").write_text(NETS)
    sws.run_recipe(sws.read_recipe(place / "r.toml"), place / "run")
    return place


def certify(folder, *more):
    arguments = ["certify", str(folder / "run"), "--recipe", str(folder / "r.toml"), *more]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_it_says_what_the_runs_report_says_and_more(folder):
    table = json.loads(certify(folder, "--json").output)
    report = json.loads((folder / "run" / "report.json").read_text())
    assert table["certificate"]["bound_percent"] == report["certificate"]["bound_percent"]
    assert table["holdout"] == report["holdout"]
    assert table["holdout"]["examples"] == 200


def test_it_writes_json_and_says_sentences(folder):
    done = certify(folder, "--out", str(folder / "c.json"), "--tried", "4", "--codec-bits", "0")
    table = json.loads((folder / "c.json").read_text())
    assert table["side"] == {"tried": 4, "codec_bits": 0.0, "bits": 2.0}
    assert table["sentence"].split(". ")[0] in done.output.replace("\n", " ")
    assert "assumes: the training examples are independent draws" in done.output


def test_a_recipe_of_inputs_alone_proves_nothing(folder):
    (folder / "u.toml").write_text(RECIPE.replace(":data", ":inputs"))
    with pytest.raises(sws.NotCertifiable, match="without labels nobody knows"):
        CliRunner().invoke(
            app,
            ["certify", str(folder / "run"), "--recipe", str(folder / "u.toml")],
            catch_exceptions=False,
        )
