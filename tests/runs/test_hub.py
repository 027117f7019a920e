"""A run goes to the Hub and comes back as weights; the Hub is a folder here, nothing is sent."""

import inspect
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from problems import classifier

import pyro_sws as sws
from pyro_sws.codec.container import FormatError

REPO = "somebody/small"


class FakeHub:
    """As much of huggingface_hub as is called, over a dict of files."""

    def __init__(self, folder):
        self.folder, self.files, self.calls = folder, {}, []

    def HfApi(self, **given):
        self.calls.append(("HfApi", given))
        return self

    def CommitOperationAdd(self, path_in_repo, path_or_fileobj):
        assert isinstance(path_or_fileobj, bytes)
        return path_in_repo, path_or_fileobj

    def create_repo(self, repo_id, **given):
        self.calls.append(("create_repo", given))
        return SimpleNamespace(repo_id=repo_id)

    def file_exists(self, repo_id, filename, **given):
        return filename in self.files

    def create_commit(self, repo_id, operations, **given):
        self.calls.append(("create_commit", given))
        self.files |= dict(operations)
        return SimpleNamespace(commit_url=f"hub:{repo_id}")

    def hf_hub_download(self, repo_id, filename, **given):
        self.calls.append(("hf_hub_download", {"filename": filename, **given}))
        (self.folder / filename).write_bytes(self.files[filename])
        return str(self.folder / filename)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = FakeHub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


@pytest.fixture(scope="module")
def run():
    net, inputs, targets = classifier()
    return sws.compress(net, [(inputs, targets)], epochs=1)


def test_what_was_pushed_comes_back(hub, run):
    assert sws.push_to_hub(run, REPO) == f"hub:{REPO}"
    net, inputs, _ = classifier(seed=1)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    back = sws.from_pretrained(REPO, into=net)
    with torch.no_grad():
        assert torch.equal(back(inputs), run.decoded(inputs))
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_a_push_is_the_file_the_report_and_a_card_and_nothing_else(hub, run):
    sws.push_to_hub(run, REPO, private=True, token="t", revision="dev")
    assert set(hub.files) == {"model.sws", "report.json", "README.md"}
    assert hub.files["model.sws"] == run.data
    told = json.loads(hub.files["report.json"])
    assert told["file_bytes"] == len(run.data) and told["command"] is None
    calls = dict(hub.calls)
    assert calls["HfApi"]["token"] == "t"
    assert calls["create_repo"] == {"private": True, "exist_ok": True}
    assert calls["create_commit"]["revision"] == "dev"


def test_the_card_says_how_to_load_the_file_and_an_own_card_stays(hub, run):
    sws.push_to_hub(run, REPO)
    text = hub.files["README.md"].decode()
    assert f'sws.from_pretrained("{REPO}", into=net)' in text
    assert f"{len(run.data):,} bytes" in text and text.startswith("---\nlibrary_name: pyro-sws\n")
    hub.files["README.md"] = b"mine"
    sws.push_to_hub(run, REPO)
    assert hub.files["README.md"] == b"mine"


def test_only_the_file_is_downloaded_at_the_revision(hub, run):
    sws.push_to_hub(run, REPO)
    hub.calls.clear()
    sws.from_pretrained(REPO, classifier()[0], revision="abc")
    (call,) = hub.calls
    expected = {"filename": "model.sws", "revision": "abc", "token": None, "cache_dir": None}
    assert call == ("hf_hub_download", expected)


@pytest.mark.parametrize("filename", ["pytorch_model.bin", "model.safetensors", "model.sws.pkl"])
def test_no_other_kind_of_file_is_fetched(hub, filename):
    with pytest.raises(ValueError, match="filename must end in .sws"):
        sws.from_pretrained(REPO, classifier()[0], filename=filename)
    assert not hub.calls


def test_a_pickle_under_the_files_name_is_no_file(hub):
    hub.files["model.sws"] = b"\x80\x04\x95pickle"
    with pytest.raises(FormatError):
        sws.from_pretrained(REPO, classifier()[0])


def test_what_is_no_run_or_no_module_is_told_before_anything_is_sent(hub, run):
    with pytest.raises(TypeError, match="run must be what compress returns, got bytes"):
        sws.push_to_hub(run.data, REPO)
    with pytest.raises(TypeError, match="into is a dict"):
        sws.from_pretrained(REPO, classifier()[0].state_dict())
    assert not hub.calls


def test_without_the_library_it_says_how_to_get_it(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'pyro-sws\[hub\]'"):
        sws.push_to_hub(run, REPO)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("HfApi", ["token", "library_name"]),
        ("HfApi.create_repo", ["repo_id", "private", "exist_ok"]),
        ("HfApi.file_exists", ["repo_id", "filename", "revision"]),
        ("HfApi.create_commit", ["repo_id", "operations", "commit_message", "revision"]),
        ("hf_hub_download", ["repo_id", "filename", "revision", "token", "cache_dir"]),
        ("CommitOperationAdd", ["path_in_repo", "path_or_fileobj"]),
    ],
)
def test_the_library_takes_what_it_is_given(name, given):
    value = pytest.importorskip("huggingface_hub")
    for part in name.split("."):
        value = getattr(value, part)
    assert set(given) <= set(inspect.signature(value).parameters)
