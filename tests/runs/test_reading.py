"""A damaged run folder is a ValueError that names it, whatever is wrong with which file."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from problems import classifier

import pyro_sws as sws

GOLDEN = Path(__file__).parents[1] / "golden" / "runs" / "refined"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    net, inputs, targets = classifier()
    sws.compress(net, [(inputs, targets)], epochs=1).save(folder)
    return folder


def without(table, path):
    *parents, last = path.split(".")
    inner = table
    for key in parents:
        inner = inner[key]
    del inner[last]
    return table


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    "name", ["model.sws", "report.json", "history.jsonl", "recipe.toml", "trained.safetensors"]
)
def test_a_file_of_other_bytes_is_refused(saved, tmp_path, name, older):
    shutil.copytree(GOLDEN if older else saved, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"\x00 no such thing {")
    with pytest.raises(ValueError, match=str(tmp_path / "run" / name)) as raised:
        sws.Run.open(tmp_path / "run")
    assert str(raised.value).count(str(tmp_path / "run" / name)) <= 2  # there, and how to mend it


@pytest.mark.parametrize(
    "name",
    ["model.sws", "history.jsonl", "recipe.toml"]
    + [f"{part}.safetensors" for part in ("trained", "posterior", "packed")],
)
def test_a_file_that_is_missing_is_named(saved, tmp_path, name):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(ValueError, match=str(tmp_path / "run" / name)):
        sws.Run.open(tmp_path / "run")


@pytest.mark.parametrize("key", ["score", "groups", "bits", "groups.all.means"])
def test_a_report_that_lacks_what_it_has_is_refused_or_read(saved, tmp_path, key):
    shutil.copytree(GOLDEN, tmp_path / "run")
    path = tmp_path / "run" / "report.json"
    path.write_text(json.dumps(without(json.loads(path.read_text()), key)))
    with pytest.raises(ValueError, match=str(tmp_path / "run")):
        sws.Run.open(tmp_path / "run")


def test_tensors_without_their_table_are_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    for name in ("posterior", "packed", "trained"):
        shutil.copy(GOLDEN / "trained.safetensors", tmp_path / "run" / f"{name}.safetensors")
    with pytest.raises(ValueError, match=str(tmp_path / "run")):
        sws.Run.open(tmp_path / "run")


@pytest.mark.parametrize("name", ["trained", "posterior"])
def test_tensors_of_another_network_are_refused(saved, tmp_path, name):
    _, inputs, targets = classifier()
    net = torch.nn.Linear(4, 3)
    sws.compress(net, [(inputs, targets)], epochs=1).save(tmp_path / "other")
    file = f"{name}.safetensors"
    shutil.copytree(saved, tmp_path / "run")
    shutil.copy(tmp_path / "other" / file, tmp_path / "run" / file)
    with pytest.raises(ValueError, match="run"):
        sws.Run.open(tmp_path / "run")


TENSORS = ["model.sws", "history.jsonl"] + [
    f"{part}.safetensors" for part in ("trained", "posterior", "packed")
]


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_of_another_run_of_the_same_network_is_refused(saved, tmp_path, name):
    net, inputs, targets = classifier(seed=1)
    fine = sws.SpikeAndSlabs(slabs=6, start_deviation=0.01)
    sws.compress(net, [(inputs, targets)], prior=fine, epochs=2).save(tmp_path / "other")
    shutil.copytree(saved, tmp_path / "run")
    assert (tmp_path / "other" / name).read_bytes() != (saved / name).read_bytes()
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    with pytest.raises(ValueError, match=f"{name}: it is not as this run wrote it.*another run"):
        sws.Run.open(tmp_path / "run")


def test_a_bit_that_flipped_in_the_tensors_is_noticed(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    path = tmp_path / "run" / "posterior.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(ValueError, match="posterior.safetensors: it is not as this run wrote it"):
        sws.Run.open(tmp_path / "run")


def test_checksums_are_those_of_sha256(saved):
    lines = (saved / "checksums.sha256").read_text().splitlines()
    expected = [f"{sha256((saved / name).read_bytes()).hexdigest()}  {name}" for name in TENSORS]
    assert sorted(lines) == sorted(expected)


def test_text_may_be_edited_and_a_run_without_checksums_be_opened(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text("# mine\n" + recipe.read_text())
    sws.Run.open(tmp_path / "run")
    (tmp_path / "run" / "checksums.sha256").unlink()
    sws.Run.open(tmp_path / "run")
