"""A recipe names modules, loaders and weights that the library has never seen."""

import json
import sys

import pytest
import tomli_w
import torch
from safetensors.torch import save_file
from torch import nn

import pyro_sws as sws
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.recipes.sources import Source
from pyro_sws.runs.execute import load_network, run_recipe
from pyro_sws.runs.inputs import first_batch, is_pair, load_data, load_tensors

NET = """
from torch import nn
from .layers import width

ANSWER = 42

def factory(hidden=width):
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))
"""
LOADERS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def dataset(count, seed):
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, inputs[:, :3].argmax(1))

def loaders(data_dir=None):
    return {
        "train": DataLoader(dataset(90, 0), batch_size=30, shuffle=True),
        "validation": DataLoader(dataset(45, 1), batch_size=30),
    }

class Stream:
    def __iter__(self):
        for inputs, targets in zip(*(t.split(30) for t in dataset(90, 0).tensors)):
            yield inputs, targets

def own_class():
    return {"train": Stream(), "test": [dataset(20, 1).tensors, dataset(10, 2).tensors]}

def once():
    return {"train": iter(Stream())}

def nothing():
    return {"train": []}

def a_function():
    return {"train": loaders}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package and a recipe beside it; the current directory is another one."""
    for package in ("own_pkg", "own_pkg/deep"):
        (tmp_path / "project" / package).mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / package / "__init__.py").touch()
    deep = tmp_path / "project" / "own_pkg" / "deep"
    (deep / "net.py").write_text(NET)
    (deep / "layers.py").write_text("width = 8")
    (deep / "broken.py").write_text("import no_such_library")
    (deep / "data.py").write_text(LOADERS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "project"
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_pkg"]:
        del sys.modules[name]


def recipe(project, **changes):
    table = {
        "network": "own_pkg.deep.net:factory",
        "data": "own_pkg.deep.data:loaders",
        "epochs": 2,
        "pretraining": {"epochs": 2},
        "prior": [{"family": "spike_and_slabs", "slabs": 4}],
        **changes,
    }
    (project / "own.toml").write_text(tomli_w.dumps(table))
    return project / "own.toml"


def refusal(path, folder, error=ValueError):
    with pytest.raises(error) as raised:
        run_recipe(read_recipe(path), folder)
    assert not folder.exists()
    return str(raised.value)


# Where modules are found.


def test_a_module_beside_the_recipe_is_found_from_everywhere(project):
    before = list(sys.path)
    net, _ = load_network(read_recipe(recipe(project)))
    assert isinstance(net, nn.Sequential) and net[0].out_features == 8
    assert sys.path == before


def test_a_module_in_the_current_directory_is_found(project, monkeypatch):
    monkeypatch.chdir(project)
    path = recipe(project)
    (project / "recipes").mkdir()
    path = path.rename(project / "recipes" / "own.toml")
    assert isinstance(load_network(read_recipe(path))[0], nn.Sequential)


def test_arguments_are_handed_to_the_factory(project):
    path = recipe(project, network={"source": "own_pkg.deep.net:factory", "hidden": 5})
    assert load_network(read_recipe(path))[0][0].out_features == 5


def test_another_module_of_a_name_that_is_taken_is_not_mistaken_for_it(project, tmp_path):
    load_network(read_recipe(recipe(project)))
    other = tmp_path / "other" / "own_pkg"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    source = Source("own_pkg.deep.net:factory", folder=other.parent)
    with pytest.raises(ValueError, match="a module 'own_pkg' was imported already, from"):
        source()


def test_reading_and_opening_run_nothing_of_the_users(project, tmp_path):
    run_recipe(read_recipe(recipe(project)), tmp_path / "out")
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_pkg"]:
        del sys.modules[name]
    run = sws.Run.open(tmp_path / "out")
    sws.decode(run.data)
    with pytest.raises(ValueError, match="is code that a run folder names"):
        _ = run.network
    assert "own_pkg" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "own_pkg.deep.nets:factory"}, "no module 'own_pkg.deep.nets' in "),
        ({"network": "own_package:factory"}, "no module 'own_package' in "),
        (
            {"network": "own_pkg.deep.net:factry"},
            "own_pkg.deep.net has no function or class 'factry', did you mean 'factory'?",
        ),
        (
            {"network": "own_pkg.deep.net:ANSWER"},
            "own_pkg.deep.net has no function or class 'ANSWER'; that is of type int",
        ),
        (
            {"network": {"source": "own_pkg.deep.net:factory", "width": 3}},
            "own_pkg.deep.net:factory: got an unexpected keyword argument 'width'; it takes hidden",
        ),
        (
            {"network": "own_pkg.deep.data:loaders"},
            "network: own_pkg.deep.data:loaders returned dict, not a torch.nn.Module",
        ),
        (
            {"data": "own_pkg.deep.net:factory"},
            "data: own_pkg.deep.net:factory returned Sequential; it must return a mapping",
        ),
        ({"data": "own_pkg.deep.data:once"}, "which is empty after one pass"),
        ({"data": "own_pkg.deep.data:nothing"}, "data: train is empty; give at least one batch"),
        (
            {"data": "own_pkg.deep.data:a_function"},
            "returned for 'train' a function; it must be a pair (inputs, targets), or batches",
        ),
        (
            {"augmentation": "own_pkg.deep.net:factory"},
            "augmentation: own_pkg.deep.data:loaders returns 'train' in batches of its own",
        ),
    ],
)
def test_what_a_recipe_names_wrongly_is_told_in_a_line(project, tmp_path, changes, message):
    told = refusal(recipe(project, **changes), tmp_path / "out")
    assert message in told and "\n" not in told


def test_what_a_module_itself_lacks_is_named(project, tmp_path):
    path = recipe(project, network="own_pkg.deep.broken:factory")
    assert "no_such_library" in refusal(path, tmp_path / "out", ModuleNotFoundError)


# Data in batches of one's own.


@pytest.mark.integration
def test_loaders_of_ones_own_run_through_the_whole_line(project, tmp_path):
    run = run_recipe(read_recipe(recipe(project)), tmp_path / "out")
    row = json.loads((tmp_path / "out" / "report.json").read_text())["data"]
    told = {"name": "own_pkg.deep.data:loaders", "training": 90, "validation": 45, "test": None}
    assert row == told == run.report.data
    assert run.report.certificate is not None
    assert sws.decode(run.data) == run.quantized


@pytest.mark.integration
def test_batches_of_an_own_class_and_a_list_do_as_well(project, tmp_path):
    path = recipe(project, data="own_pkg.deep.data:own_class")
    run = run_recipe(read_recipe(path), tmp_path / "out")
    assert run.report.data["test"] == 30 and run.report.data["training"] == 90


@pytest.mark.integration
def test_loaders_give_what_their_tensors_give(project, tmp_path):
    """Where the order is the same: batches are batches, whoever makes them."""
    (project / "both.py").write_text(
        "import torch\n"
        "from own_pkg.deep.data import dataset\n"
        "def pair():\n    return {'train': dataset(90, 0).tensors}\n"
        "def batches():\n    return {'train': [dataset(90, 0).tensors]}\n"
    )
    weights = load_network(read_recipe(recipe(project)))[0].state_dict()
    save_file(weights, project / "start.safetensors")
    own = {"start": "start.safetensors", "batch_size": 90}
    files = []
    for name in ("pair", "batches"):
        path = recipe(project, data=f"both.py:{name}", **own)
        files.append(run_recipe(read_recipe(path), tmp_path / name).posterior.weights)
    for name, weights in files[0].items():
        # A Batches of one batch still shuffles it: sums in another order.
        torch.testing.assert_close(weights, files[1][name], rtol=1e-4, atol=1e-5)


def test_a_pair_of_tensors_is_told_from_two_batches():
    pair = (torch.zeros(2, 4), torch.zeros(2))
    assert is_pair(pair) and is_pair([*pair])
    assert not is_pair([pair, pair]) and not is_pair((pair, pair)) and not is_pair([pair])


def test_reading_data_leaves_the_generator_where_it_was(project):
    plan = read_recipe(recipe(project))
    before = torch.get_rng_state()
    load_data(plan.data)
    first_batch(load_data(plan.data)["train"], "train")
    assert torch.equal(before, torch.get_rng_state())


# Weights.


def tied():
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    net[1].weight = net[0].weight
    return net


def test_a_state_dict_that_names_a_tied_tensor_twice_is_taken(tmp_path):
    values = torch.arange(20.0).view(5, 4)
    save_file({"0.weight": values, "1.weight": values.clone()}, tmp_path / "w.safetensors")
    net = tied()
    load_tensors(net, tmp_path / "w.safetensors")
    assert torch.equal(net[1].weight, values) and net[1].weight is net[0].weight
    save_file({"1.weight": values + 1}, tmp_path / "second.safetensors")
    load_tensors(net, tmp_path / "second.safetensors")
    assert torch.equal(net[0].weight, values + 1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.weight": (5, 4), "1.weight": (5, 4)}, "'1.weight' and '0.weight' are one tensor"),
        ({"0.weight": (4, 4)}, r"'0.weight' has shape (4, 4) in the file and (5, 4) in the net"),
        ({"a.weight": (5, 4)}, "it has a.weight that the network lacks, and lacks 0.weight"),
        (
            {"module.0.weight": (5, 4)},
            "its names are right without 'module.', which a wrapper put there: leave that out",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path, tensors, message):
    made = {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(tensors.items())}
    save_file(made, tmp_path / "w.safetensors")
    with pytest.raises(ValueError) as raised:
        load_tensors(tied(), tmp_path / "w.safetensors")
    assert message in str(raised.value)
