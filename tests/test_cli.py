"""The command line: what it writes and prints, and one line and exit code 2 for what can be mended.

Typer's runner is in-process and goes past ``main``; subprocesses show what a terminal shows.
"""

import io
import json
import os
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coded_networks import two_layers
from few_draws import few_draws
from messages import assert_says
from rich.console import Console
from safetensors.torch import load_file
from small_checkpoints import tensors as checkpoint_tensors
from small_checkpoints import write_file as write_checkpoint
from small_recipe import write_recipe
from small_search import write_search
from typer.testing import CliRunner

import pyro_sws as sws
from pyro_sws import cli
from pyro_sws.compression.walk.judge import Judge
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.inputs import build_network
from pyro_sws.runs.run import Run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run by the command line: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    path = write_recipe(folder)
    return folder, invoke("run", path, "--out", folder / "out")


@pytest.fixture(autouse=True)
def quick():
    with few_draws():
        yield


def invoke(*arguments):
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def refusal(monkeypatch, capsys, *arguments):
    """The line that ``main`` prints to stderr as it exits with code 2."""
    monkeypatch.setattr(sys, "argv", ["pyro-sws", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr()
    assert caught.value.code == 2 and printed.out == ""
    assert printed.err.startswith("pyro-sws: ") and printed.err.count("\n") == 1
    return printed.err.removeprefix("pyro-sws: ").rstrip("\n")


def in_a_terminal(*arguments, cwd):
    """Run the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pyro_sws.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "60"},
    )


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What the commands do.


def test_run_writes_the_folder_and_prints_the_file_s_bytes(done):
    folder, printed = done
    report = Run.open(folder / "out").report
    assert f"{report.parameter_bytes:,}" in printed and f"{report.file_bytes:,}" in printed
    assert f"wrote {folder / 'out'}: model.sws, report.html" in printed


def test_export_writes_weights_without_a_recipe_and_programs_with_one(done, tmp_path):
    folder, _ = done
    printed = invoke("export", folder / "out", tmp_path / "net.safetensors")
    assert "net.safetensors: 4 tensors" in printed
    assert set(load_file(tmp_path / "net.safetensors")) == set(sws.decode(file_of(done)).tensors())
    invoke("export", folder / "out", tmp_path / "net.pt2", "--recipe", folder / "small.toml")
    inputs = torch.zeros(5, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own reader
        program = torch.export.load(tmp_path / "net.pt2").module()
    net = build_network(read_recipe(folder / "small.toml").network, 0)
    with torch.no_grad():
        torch.testing.assert_close(program(inputs), sws.load(file_of(done), into=net)(inputs))


NAMED = """
import torch
from torch import nn

class Sum(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x, z):
        return {"logits": super().forward(x + z)}

def batches():
    x = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    return {"train": [{"x": a, "z": a / 2, "labels": a[:, :3].argmax(1)} for a in x]}
"""


def test_a_program_is_traced_on_batches_of_other_forms(tmp_path):
    names = {"network": "named.py:Sum", "data": "named.py:batches", "pretraining": None}
    recipe = write_recipe(tmp_path, **names)
    (tmp_path / "named.py").write_text(NAMED)
    invoke("run", recipe, "--out", tmp_path / "out")
    invoke("export", tmp_path / "out", tmp_path / "net.pt2", "--recipe", recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(tmp_path / "net.pt2").module()
    net = build_network(read_recipe(recipe).network, 0)
    x, z = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = sws.load(tmp_path / "out" / "model.sws", into=net)(x, z)["logits"]
        torch.testing.assert_close(program(x=x, z=z)["logits"], wanted)


def file_of(done):
    return (done[0] / "out" / "model.sws").read_bytes()


def test_a_program_without_a_recipe_is_refused(done, tmp_path, monkeypatch, capsys):
    told = refusal(monkeypatch, capsys, "export", done[0] / "out", tmp_path / "net.onnx")
    assert told.endswith("net.onnx: a program needs --recipe, which names its network")


def test_run_prints_the_report_as_json_and_nothing_else(done, tmp_path):
    folder, _ = done
    printed = invoke("run", folder / "small.toml", "--out", tmp_path / "out", "--json")
    found, written = json.loads(printed), json.loads((tmp_path / "out/report.json").read_text())
    assert found == written
    older = Run.open(folder / "out").report.to_dict()
    own = {"seconds": 0, "date": ""}  # of each run
    assert {**found, **own} == {**older, **own}


def test_run_writes_to_runs_by_default_and_passes_changes_on(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = done[0] / "out/trained.safetensors"
    invoke("run", done[0] / "small.toml", "--set", "epochs=1", "--start", start)
    found = Run.open("runs/small")
    assert len(found.history) == 1
    # Trained weights are found from the folder, wherever the recipe was.
    assert (Path("runs/small") / found.plan.network.start).resolve() == start.resolve()


def test_a_run_from_an_earlier_one_is_compared_with_it(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    earlier = done[0] / "out"
    invoke("run", done[0] / "small.toml", "--from", earlier, "--set", "prior.0.slabs=3")
    found = Run.open("runs/small")
    assert found.history[0]["epoch"] == 1 and "pretrain" not in found.report.seconds
    assert (Path("runs/small") / found.plan.network.from_run).resolve() == earlier.resolve()
    shown = invoke("compare", earlier, "runs/small")
    assert "fit, seconds" in shown and "timed from there: small" in shown
    assert f"{found.report.file_bytes:,}" in shown and "ELBO" not in shown
    assert "wrote runs/compare: comparison.md, comparison.png, comparison.json" in shown
    printed = json.loads(invoke("compare", earlier, "runs/small", "--json", "--out", "again"))
    rows = [(row["run"], row["prior"]) for row in printed["runs"]]
    assert rows == [("out", "spike_and_slabs, slabs 2"), ("small", "spike_and_slabs, slabs 3")]
    for folder in ("runs/compare", "again"):
        assert json.loads((tmp_path / folder / "comparison.json").read_text()) == printed


def test_compare_runs_a_recipe_first(done, tmp_path):
    printed = invoke("compare", done[0] / "small.toml", done[0] / "out", "--out", tmp_path)
    assert Run.open(tmp_path / "small").data == Run.open(done[0] / "out").data
    assert f"wrote {tmp_path}: comparison.md" in printed


def test_diagnose_prints_and_writes_what_it_found(done, tmp_path):
    folder, other = done[0] / "out", tmp_path / "other"
    start = folder / "trained.safetensors"
    invoke("run", done[0] / "small.toml", "--start", start, "--set", "seed=1", "--out", other)
    own = "--recipe", folder / "recipe.toml"
    printed = invoke("diagnose", folder, *own)
    assert "assignments; on test data" in printed and "0.weight" in printed
    assert "calibration on test data" in printed and "trained network" in printed
    assert f"wrote {folder}: report.html (diagnostics), diagnostics/" in printed
    found = json.loads(invoke("diagnose", folder, *own, "--json"))
    assert found == json.loads((folder / "diagnostics" / "diagnostics.json").read_text())
    assert found["restarts"] is None
    again = json.loads(invoke("diagnose", folder, *own, "--json", "--with", other))
    assert [row["restart"] for row in again["restarts"]["rows"]] == [str(folder), str(other)]
    alone = " ".join(invoke("diagnose", folder).split())
    assert "note: the network itself is needed; name the recipe" in alone
    assert "calibration" not in alone


@pytest.mark.slow
def test_diagnose_samples_where_it_is_told_to(finished_runs, tmp_path):
    short = "--chains", 2, "--warmup", 5, "--draws", 13
    printed = invoke("diagnose", finished_runs.copy("mixture", tmp_path), "--nuts", *short)
    assert "2 chains of 13 draws by NUTS" in " ".join(printed.split())


def test_search_prints_the_front_and_goes_on(tmp_path):
    path, out = write_search(tmp_path), tmp_path / "out"
    printed = invoke("search", path, "--trials", 2, "--out", out)
    assert "small: 2 complete" in printed and "validation error" in printed
    assert "2 made now" in printed  # both, and not the front alone
    made = json.loads((out / "search.json").read_text())["trials"]
    assert all(f"{trial['file_bytes']:,}" in printed for trial in made) and len(made) == 2
    assert f"wrote {out}: search.json, frontier.png, best/" in printed
    again = json.loads(invoke("search", path, "--trials", 1, "--out", out, "--json"))
    assert again == json.loads((out / "search.json").read_text())
    assert [trial["number"] for trial in again["trials"]] == [0, 1, 2]
    best = again["trials"][again["front"][0]]
    assert best["file_bytes"] == min(trial["file_bytes"] for trial in again["trials"])
    assert f"{best['file_bytes']:,}" in invoke("search", path, "--trials", 0, "--out", out)


def test_search_writes_beside_the_runs_by_default_and_warns_of_failures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_search(tmp_path, {"prior.0.match": {"choices": ["none*"]}})
    result = CliRunner().invoke(cli.app, ["search", str(path), "--trials", "1"])
    assert result.exit_code == 0
    assert "warning: trial 0 failed: prior[0]: match 'none*' matches no tensor" in result.stderr
    assert "1 failed" in result.stdout and "wrote runs/small-search: search.json\n" in result.stdout


def test_search_without_a_space_or_with_a_wrong_one_is_refused(tmp_path, monkeypatch, capsys):
    message = refusal(monkeypatch, capsys, "search", write_recipe(tmp_path), "--trials", 1)
    assert "has no [search.space]" in message
    path = write_search(tmp_path, {"taw": {"low": 1, "high": 2}})
    message = refusal(monkeypatch, capsys, "search", path, "--trials", 1)
    assert "search.space: taw = 1: unknown key 'taw', did you mean 'tau'?" in message
    assert not (tmp_path / "runs").exists()


def test_run_says_which_tensors_are_stored_raw(tmp_path):
    rules = [{"family": "spike_and_slabs", "slabs": 2, "match": "*.weight"}]
    path = write_recipe(tmp_path, prior=rules)
    result = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "warning: no prior covers 0.bias, 2.bias: stored raw" in result.stderr
    assert "warning" not in result.stdout


def test_a_run_s_warnings_are_coloured_on_a_terminal_just_before_its_last_line(
    tmp_path, monkeypatch
):
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, color_system="standard")
    monkeypatch.setattr(cli, "err", terminal)
    monkeypatch.setattr(cli, "out", terminal)
    path = write_recipe(tmp_path, prior=[{"family": "spike_and_slabs", "match": "0.weight"}])
    CliRunner().invoke(cli.app, ["run", str(path), "--out", str(tmp_path / "out")])
    warned = json.loads((tmp_path / "out/report.json").read_text())["warnings"]
    *_, last = lines = shown.getvalue().splitlines()
    assert last.startswith("wrote ") and "raw tensors are" in " ".join(warned)
    expected = [f"\x1b[33mwarning: {warning}\x1b[0m" for warning in warned]
    assert lines[-1 - len(expected) : -1] == expected


@pytest.mark.parametrize("name", ["out", "out/model.sws"])
def test_inspect_says_where_each_bit_goes(done, name):
    path = done[0] / name
    layout = json.loads(invoke("inspect", path, "--json"))
    assert sum(layout["bits"].values()) == 8 * len((done[0] / "out/model.sws").read_bytes())
    assert layout["tensors"]["0.weight"]["shape"] == [8, 4]
    assert layout["version"] == 2
    shown = invoke("inspect", path)
    assert "0.weight" in shown and "8 x 4" in shown and "codebook all (float16):" in shown


def test_decode_writes_the_weights_that_load_reads(done, tmp_path):
    invoke("decode", done[0] / "out", "--out", tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    net = build_network(read_recipe(done[0] / "small.toml").network, 0)
    expected = sws.load(done[0] / "out/model.sws", into=net).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    net.load_state_dict(found)


def test_prior_describes_each_group_before_fitting(done, tmp_path):
    path = done[0] / "small.toml"
    described = json.loads(invoke("prior", path, "--json", "--set", "prior.0.slabs=3"))
    assert described["groups"]["all"]["summary"]["components"] == 4
    assert described["weights"] == "untrained"
    shown = invoke("prior", path)
    assert "group all: SpikeAndSlabs" in shown and "untrained" in shown
    trained = done[0] / "out/trained.safetensors"
    started = json.loads(invoke("prior", write_recipe(tmp_path, start=str(trained)), "--json"))
    assert started["weights"] == "trained" and started != described
    assert json.loads(invoke("prior", path, "--json", "--weights", trained)) == started


def test_prior_runs_drawn_networks_on_the_training_inputs(done, tmp_path):
    path = done[0] / "small.toml"
    found = json.loads(invoke("prior", path, "--json", "--draws", 4))["predictive"]
    assert (found["examples"], len(found["draws"]), found["likelihood"]) == (60, 4, "Categorical")
    assert found["maximum_entropy_nats"] == pytest.approx(1.0986, abs=1e-4)  # log 3
    assert "4 networks drawn from the prior, on 60 inputs" in invoke("prior", path, "--draws", 4)
    without = invoke("prior", path, "--no-data", "--data-dir", tmp_path)
    assert "networks drawn" not in without
    assert json.loads(invoke("prior", path, "--no-data", "--json"))["predictive"] is None


def test_prior_without_its_data_says_how_to_do_without(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path)
    message = refusal(monkeypatch, capsys, "prior", path, "--data-dir", tmp_path / "none")
    assert message == f"no points in {tmp_path / 'none'}; or do without, by --no-data"


def test_prior_warns_on_stderr_and_in_json(tmp_path):
    path = write_recipe(tmp_path)
    change = "prior.0.zero_proportion={zeros=1.2, nonzeros=1.1}"
    arguments = ["prior", str(path), "--set", change, "--set", "network.hidden=90"]
    warned = CliRunner().invoke(cli.app, arguments)
    assert warned.exit_code == 0 and "warning" not in warned.stdout
    assert "warning: group all: all.zero_proportion is swamped: Beta(1.2, 1.1)" in warned.stderr
    warnings = json.loads(invoke(*arguments, "--json"))["groups"]["all"]["warnings"]
    assert any("swamped" in warning for warning in warnings)


def test_prior_draws_a_picture(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path)
    picture = tmp_path / "prior.png"
    assert f"wrote {picture}" in invoke("prior", path, "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    message = refusal(monkeypatch, capsys, "prior", path, "--out", tmp_path / "prior.jpg")
    assert message == f"--out {tmp_path / 'prior.jpg'}: the picture is a PNG file; name it so"


def test_prior_starts_from_a_run_s_fitted_weights(done, tmp_path):
    path = write_recipe(tmp_path, from_run=str(done[0] / "out"))
    found = json.loads(invoke("prior", path, "--json"))
    fitted = load_file(done[0] / "out/posterior.safetensors")["all.weights"]
    assert found["weights"] == "trained"
    low, high = found["groups"]["all"]["summary"]["the weights' range"]
    assert [low, high] == pytest.approx([fitted.min().item(), fitted.max().item()], rel=1e-5)


def test_prior_says_which_tensors_no_rule_matches(tmp_path):
    rules = [{"family": "spike_and_slabs", "match": "0.*"}]
    path = write_recipe(tmp_path, prior=rules)
    assert json.loads(invoke("prior", path, "--json"))["uncovered"] == ["2.weight", "2.bias"]
    assert "stored raw, no rule matches: 2.weight, 2.bias" in invoke("prior", path)


def test_schema_is_printed_or_written(tmp_path):
    printed = invoke("schema")
    assert invoke("schema", "--out", tmp_path / "s.json").endswith("#:schema s.json\n")
    assert json.loads(printed) == json.loads((tmp_path / "s.json").read_text())
    assert "spike_and_slabs" in printed


# What it refuses: one line, exit code 2, nothing on stdout, nothing written.


def test_a_terminal_shows_one_line_and_no_traceback(tmp_path):
    write_recipe(tmp_path)
    before = files(tmp_path)
    change = "prior.0.spike_precision={shap=1.0, rate=1.0}"
    found = in_a_terminal("run", "small.toml", "--out", "new/out", "--set", change, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    line = found.stderr.removesuffix("\n")
    place = "pyro-sws: small.toml: prior[0].spike_precision: "
    assert_says(line, place, "'shap'", "'shape'", "known are rate, shape")
    assert files(tmp_path) == before and not (tmp_path / "new").exists()


def test_a_terminal_is_told_of_a_damaged_file(done, tmp_path):
    data = (done[0] / "out/model.sws").read_bytes()
    (tmp_path / "cut.sws").write_bytes(data[:-3])
    found = in_a_terminal("decode", "cut.sws", "--out", "w.safetensors", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("pyro-sws: cut.sws: the .sws file is altered or truncated")
    assert found.stderr.count("\n") == 1
    assert files(tmp_path).keys() == {"cut.sws"}


@pytest.mark.parametrize("command", ["inspect", "decode"])
def test_a_file_that_is_none_of_ours_is_refused(done, tmp_path, monkeypatch, capsys, command):
    data = (done[0] / "out/model.sws").read_bytes()
    later = data[:3] + bytes([99]) + data[4:-4]
    damage = {
        "none.sws": (None, "No such file"),
        "empty.sws": (b"", "not a .sws file"),
        "text.sws": (b"network = 3\n", "not a .sws file: starts with"),
        "short.sws": (data[:9], "truncated"),
        "cut.sws": (data[:-10], "altered or truncated"),
        "altered.sws": (data[:20] + bytes([data[20] ^ 1]) + data[21:], "altered or truncated"),
        "later.sws": (
            later + zlib.crc32(later).to_bytes(4, "little"),
            "file is format 99; this build reads up to 6",
        ),
    }
    monkeypatch.chdir(tmp_path)
    for name, (content, words) in damage.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        message = refusal(monkeypatch, capsys, command, name)
        assert name in message and words in message, message
    assert not (tmp_path / "weights.safetensors").exists()


def test_decode_refuses_a_place_that_cannot_be_written(done, tmp_path, monkeypatch, capsys):
    arguments = "decode", done[0] / "out", "--out"
    message = refusal(monkeypatch, capsys, *arguments, tmp_path / "none/w.safetensors")
    assert message == f"no folder {tmp_path / 'none'} for w.safetensors; make it first"
    message = refusal(monkeypatch, capsys, *arguments, tmp_path)
    assert message == f"{tmp_path} is a folder; name a file in it"
    assert not list(tmp_path.iterdir())


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_decode_writes_what_the_ending_says_or_refuses_it(done, tmp_path, monkeypatch, capsys):
    for name in ("w.npz", "w.safetensors"):
        invoke("decode", done[0] / "out", "--out", tmp_path / name)
    expected = load_file(tmp_path / "w.safetensors")
    with np.load(tmp_path / "w.npz") as found:
        assert set(found) == set(expected)
        assert all(np.array_equal(found[name], expected[name].numpy()) for name in expected)
    place = tmp_path / "w.pt"
    message = refusal(monkeypatch, capsys, "decode", done[0] / "out", "--out", place)
    assert message == f"{place}: weights are written as .safetensors or .npz; name the file so"
    assert not place.exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: torch.save({"a": torch.zeros(2)}, path), "this is a torch checkpoint"),
        (
            lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False),
            "this is a torch checkpoint",
        ),
        (lambda path: path.write_bytes(npz(a=np.zeros(2))), "this is a numpy .npz file"),
        (lambda path: path.write_bytes(b"SWS\x02"), "this is a .sws file"),
        (lambda path: path.mkdir(), "is a folder; name a safetensors file"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_a_start_of_another_kind_is_named(write, words, tmp_path, monkeypatch, capsys):
    recipe, start = write_recipe(tmp_path), tmp_path / "net.pt"
    write(start)
    assert words in refusal(monkeypatch, capsys, "run", recipe, "--start", start)


def test_a_prior_is_swapped_by_its_family_alone(tmp_path):
    recipe = write_recipe(tmp_path, prior=[{"family": "spike_and_slabs", "slabs": 3}])
    invoke("run", recipe, "--set", "prior.0.family=grid", "--out", tmp_path / "grid")
    report = json.loads((tmp_path / "grid" / "report.json").read_text())
    assert [group["family"] for group in report["groups"].values()] == ["Grid"]


def test_a_recipe_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys):
    for command in ("run", "prior"):
        assert "none.toml" in refusal(monkeypatch, capsys, command, tmp_path / "none.toml")


def test_an_output_folder_that_cannot_be_is_refused(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path)
    before = files(tmp_path)
    for out in (path, path / "below"):
        message = refusal(monkeypatch, capsys, "run", path, "--out", out)
        assert message.startswith(f"cannot write to {out}: ")
    assert files(tmp_path) == before


def test_a_start_beside_a_run_and_a_comparison_of_one_are_refused(
    done, tmp_path, monkeypatch, capsys
):
    path = write_recipe(tmp_path)
    before = files(tmp_path)
    given = "--start", "a.safetensors", "--from", done[0] / "out", "--out", tmp_path / "new"
    assert "give one of them" in refusal(monkeypatch, capsys, "run", path, *given)
    message = refusal(monkeypatch, capsys, "run", path, "--from", tmp_path)
    assert message == f"from_run: {tmp_path} holds no finished run: it has no report.json"
    for one in (path, done[0] / "out"):
        message = refusal(monkeypatch, capsys, "compare", one, "--out", tmp_path / "new")
        assert message == "there must be two or more runs to compare, got 1"
    assert files(tmp_path) == before


def test_a_folder_with_a_run_is_refused_until_told_to_overwrite(done, monkeypatch, capsys):
    folder, _ = done
    before = files(folder / "out")
    message = refusal(monkeypatch, capsys, "run", folder / "small.toml", "--out", folder / "out")
    assert message == f"{folder / 'out'} is not empty; choose another --out, or --overwrite"
    assert files(folder / "out") == before
    invoke("run", folder / "small.toml", "--out", folder / "out", "--overwrite")
    assert files(folder / "out")["model.sws"] == before["model.sws"]


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_a_run_that_diverges_leaves_the_trained_network(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path)
    arguments = "run", path, "--out", tmp_path / "out", "--set", "rates.weights=1e30"
    message = refusal(monkeypatch, capsys, *arguments)
    assert "the loss became nan in epoch 1, step 2" in message
    kept = [path.name for path in (tmp_path / "out").rglob("*.*") if path.is_file()]
    assert sorted(kept) == ["of.json", "pretraining.safetensors"]


def test_an_interrupt_leaves_no_file_of_a_run(done, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyro_sws.runs.folder.write_page", interrupt)  # the last thing made
    arguments = ["run", str(done[0] / "small.toml"), "--out", str(tmp_path / "new/out")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 130
    assert "ended by SIGINT; kept: pretraining 2 of 2, fit 2 of 2" in result.stderr
    assert "--resume" in result.stderr
    assert {path.name for path in (tmp_path / "new/out").iterdir()} == {".checkpoint"}


def test_text_in_brackets_is_no_markup(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path, tau="[bold]x[/bold]")
    assert "[bold]x[/bold]" in refusal(monkeypatch, capsys, "prior", path)


def test_a_command_or_argument_that_is_not_there_is_refused(tmp_path):
    for arguments in (["compres"], ["run"], ["inspect", "a.sws", "--jsn"]):
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 2 and result.stdout == ""


def test_a_file_with_a_fingerprint_is_read_with_the_recipe_of_its_network(finished_runs):
    folder = finished_runs.folder("fingerprint")
    path, file = folder / "small.toml", folder / "out/model.sws"
    from_folder = json.loads(invoke("inspect", folder / "out", "--json"))
    assert json.loads(invoke("inspect", file, "--recipe", path, "--json")) == from_folder
    refused = CliRunner().invoke(cli.app, ["inspect", str(file)])
    assert "give --recipe of its network" in str(refused.exception)


def test_progress_is_a_line_every_so_often_where_there_is_no_terminal(tmp_path, monkeypatch):
    path = write_recipe(tmp_path, epochs=3)
    monkeypatch.setattr(cli, "LINE_SECONDS", 0.0)
    result = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(tmp_path / "out")])
    lines = [line.split(" error cost")[0] for line in result.stderr.splitlines()]
    stages = [("pretrain", 2), ("fit", 3)]
    expected = [f"{name}: {i + 1} of {n} epochs" for name, n in stages for i in range(n)]
    assert lines[: len(expected)] == expected
    quiet = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(tmp_path / "b"), "--json"])
    assert quiet.stderr == ""


def test_the_version_is_printed():
    assert invoke("--version").strip() == f"pyro-sws {sws.__version__}"


def test_reading_a_run_folder_runs_nothing_that_its_recipe_names(finished_runs, done, tmp_path):
    """The file has a fingerprint, so that names and shapes have to come from somewhere else."""
    marker = finished_runs.copy("fingerprint", tmp_path).parent / "it ran"
    run = f"open({str(marker)!r}, 'w').close()"
    (tmp_path / "networks.py").write_text(run)
    (tmp_path / "points.py").write_text(run)
    hostile = tmp_path / "out" / "recipe.toml"
    text = hostile.read_text()
    text = text.replace(
        'source = "../networks.py:tiny"', f'source = "os:system"\ncommand = "touch {marker}"'
    )
    hostile.write_text(text.replace('family = "spike_and_slabs"', 'family = "../points.py:Own"'))
    for command in (["inspect"], ["decode", "--out", tmp_path / "w.safetensors"], ["diagnose"]):
        invoke(command[0], tmp_path / "out", *command[1:])
        assert not marker.exists(), command
    invoke("compare", tmp_path / "out", done[0] / "out", "--out", tmp_path / "compared")
    assert not marker.exists()


def test_a_walk_that_fails_is_one_line_and_loses_nothing(tmp_path, monkeypatch, capsys):
    path = write_recipe(tmp_path, epochs=None, tolerance=1.0, budget={"passes": 1.0})
    monkeypatch.setattr(Judge, "limit", property(lambda judge: -1.0))
    message = refusal(monkeypatch, capsys, "run", path, "--out", tmp_path / "out")
    assert "no file within" in message and "failed/nearest.sws" in message
    left = files(tmp_path / "out/failed")
    assert {"nearest.sws", "trained.safetensors", "frontier/frontier.json"} <= set(left)
    assert json.loads(left["frontier/frontier.json"])["points"]
    monkeypatch.undo()
    # What was trained is where the next one may start.
    again = tmp_path / "out/failed/trained.safetensors"
    invoke("run", path, "--out", tmp_path / "out", "--start", again, "--overwrite")
    assert (tmp_path / "out/model.sws").is_file()


# Checkpoints


def test_a_checkpoint_is_shrunk_and_expanded(tmp_path):
    source = write_checkpoint(tmp_path)
    printed = invoke("shrink", source, "--out", tmp_path / "m.sws", "--tolerance", "0.01")
    assert "wrote" in printed and "bits a weight" in printed and "head.weight" in printed
    assert "m.sws" in invoke("inspect", tmp_path / "m.sws")
    invoke("expand", tmp_path / "m.sws", "--out", tmp_path / "back.safetensors")
    back, given = load_file(tmp_path / "back.safetensors"), load_file(source)
    assert {n: (t.dtype, t.shape) for n, t in back.items()} == {
        n: (t.dtype, t.shape) for n, t in given.items()
    }
    lost = (back["a.weight"].double() - given["a.weight"].double()).square().sum()
    assert 0.005 < lost / given["a.weight"].double().square().sum() <= 0.01


def test_what_shrinking_found_is_printed_for_programs(tmp_path):
    words = ["shrink", write_checkpoint(tmp_path), "--out", tmp_path / "m.sws", "--json"]
    told = json.loads(invoke(*words))
    assert told["bytes"] == (tmp_path / "m.sws").stat().st_size
    assert {row["name"] for row in told["rows"]} == checkpoint_tensors().keys()


def test_a_checkpoint_is_decoded_as_numpy_has_it(tmp_path):
    invoke("shrink", write_checkpoint(tmp_path), "--out", tmp_path / "m.sws")
    invoke("decode", tmp_path / "m.sws", "--out", tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as found:
        assert {*found} == checkpoint_tensors().keys() and found["a.weight"].dtype == np.float32


@pytest.mark.parametrize(
    "words, message",
    [
        (["shrink", "none.safetensors", "--out", "m.sws"], "there is no none.safetensors"),
        (["shrink", "model.safetensors", "--out", "m.sws", "--tolerance", "2"], "below 1, got 2"),
        (["expand", "model.safetensors"], "model.safetensors: not a .sws file"),
    ],
)
def test_a_checkpoint_that_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    write_checkpoint(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in refusal(monkeypatch, capsys, *words)
    assert files(tmp_path).keys() == {"model.safetensors"}


def test_decode_gives_no_differences_for_weights(tmp_path):
    (tmp_path / "d.sws").write_bytes(sws.encode(replace(two_layers(), base=b"a base's")))
    arguments = ["decode", str(tmp_path / "d.sws"), "--out", str(tmp_path / "w.npz")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code and "holds differences to a base, 6120626173652773" in str(done.exception)
    assert not (tmp_path / "w.npz").exists()
