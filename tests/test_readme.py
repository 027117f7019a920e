"""The code in README and docs runs as it stands, and the tables are what the results say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from problems import classifier

import pyro_sws as sws

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PRIORS = (ROOT / "docs" / "priors.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT + PRIORS, re.DOTALL)


def namespace():
    net, inputs, targets = classifier()
    batches = [(inputs, targets)]
    data = dict.fromkeys(("train", "test", "later"), batches)
    return {"sws": sws, "net": net, "torch": torch, **data}


def quickly(code):
    """The snippet at the size of a test: fewer epochs, and a walk of fewer passes."""
    walk = "compress(net, train, test=test"
    code = code.replace(f"{walk})", f"{walk}, budget=sws.Budget(8))")
    return re.sub(r"epochs=\d+", "epochs=2", code)


@pytest.mark.integration
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.strip().splitlines()[0][:40])
def test_a_snippet_runs(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = namespace()
    names["print"] = lambda *words: None
    exec(quickly(snippet), names)
    if "OneWidth" in names:
        result = sws.compress(names["net"], names["train"], prior=names["OneWidth"](), epochs=2)
        assert sws.decode(result.data) == result.quantized


@pytest.mark.integration
def test_the_first_snippet_gives_the_network_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = namespace()
    names["print"] = lambda *words: None
    exec(quickly(SNIPPETS[0]), names)
    inputs, _ = names["test"][0]
    torch.testing.assert_close(names["net2"](inputs), names["result"].decoded(inputs))


@pytest.mark.integration
def test_tables_are_what_the_results_say():
    script = [sys.executable, ROOT / "scripts" / "update_tables.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted({*re.findall(r"[\w/.-]+/[\w.-]+\.(?:toml|md|png|py)", TEXT)})
)
def test_files_that_the_readme_names_are_there(path):
    assert (ROOT / path).exists() or path.startswith("runs/")
