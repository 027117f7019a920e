"""Files on the Hugging Face Hub: a run's file, report and card up, a file down into a network."""

import json
import os
from dataclasses import replace
from types import ModuleType

from torch import nn

from pyro_sws.runs.run import Run
from pyro_sws.weights.load import load
from pyro_sws.weights.network import plain

MODEL, REPORT, CARD = "model.sws", "report.json", "README.md"


def push_to_hub(
    run: Run,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a compressed network",
) -> str:
    """Upload ``model.sws``, ``report.json`` and, where there is none, a model card, in one commit.

    The repository is made if it is not there. The network's code, the data, the posterior and the
    command that made the run stay here: whoever downloads the file needs the module to load it
    into.

    Args:
        run: what ``compress`` returned, or ``Run.open`` of a folder.
        repo_id: "user/name".
        private: whether a repository that is made now is; by default what the Hub's account says.
        token: of the Hub; by default the one that ``hf auth login`` has stored.
        revision: the branch; by default the main one.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        TypeError: for what is no run.
        ImportError: where ``pip install 'pyro-sws[hub]'`` was not done.
        Exception: whatever huggingface_hub raises, such as for a repository of somebody else.
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be what compress returns, got {type(run).__name__}")
    hub = _hub()
    api = hub.HfApi(token=token, library_name="pyro-sws")
    repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    report = json.dumps(replace(run.report, command=None).to_dict(), indent=2) + "\n"
    files = {MODEL: run.data, REPORT: report.encode()}
    if not api.file_exists(repo, CARD, revision=revision):
        files[CARD] = card(run, repo).encode()
    operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
    commit = api.create_commit(repo, operations, commit_message=message, revision=revision)
    return commit.commit_url


def from_pretrained(
    repo_id: str,
    into: nn.Module,
    *,
    filename: str = MODEL,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> nn.Module:
    """A copy of ``into``, in eval mode, with the weights of a repository's .sws file.

    Nothing else is downloaded: no pickle, no code, no configuration. The file is read as ``load``
    reads any other, which is safe on whatever bytes somebody has put there.

    Args:
        repo_id: "user/name".
        into: the network that was compressed, see ``load``; it is left as it is.
        filename: which of the repository's files, one whose name ends in .sws.
        revision: a branch, tag or commit; a commit is the one that cannot change.
        token: of the Hub, for a private repository.
        cache_dir: where the download is kept; by default the Hub's own cache.

    Raises:
        TypeError: for what is no module.
        ValueError: for another kind of file, and as ``load``.
        ImportError: where ``pip install 'pyro-sws[hub]'`` was not done.
        Exception: whatever huggingface_hub raises, such as for a repository that is not there.
    """
    plain(into, "into")  # before the download
    if not filename.endswith(".sws"):
        raise ValueError(f"filename must end in .sws, got {filename!r}; no other file is loaded")
    path = _hub().hf_hub_download(
        repo_id, filename, revision=revision, token=token, cache_dir=cache_dir
    )
    return load(path, into=into)


def card(run: Run, repo_id: str) -> str:
    """A model card in Markdown: what the file holds, what it scores, how it is loaded."""
    report = run.report
    score, unit = report.score, "%" if report.score["unit"] == "percent" else report.score["unit"]
    return "\n".join(
        [
            "---",
            "library_name: pyro-sws",
            "tags: [pyro-sws, compression, quantization]",
            "---",
            "",
            f"# {repo_id.rpartition('/')[2]}",
            "",
            f"`{MODEL}` is {report.network}, compressed by Bayesian soft weight-sharing: "
            f"{report.parameters:,} parameters in {report.file_bytes:,} bytes, "
            f"{report.ratio:.1f} times smaller than they were.",
            "",
            f"| {score['data']} {score['name']} | {unit} |",
            "|---|---|",
            f"| before | {score['before']:.4g} |",
            f"| decoded from the file | {score['decoded']:.4g} |",
            "",
            "```python",
            "import pyro_sws as sws",
            "",
            f'net = sws.from_pretrained("{repo_id}", into=net)  # net: the module that it was',
            "```",
            "",
            f"`{REPORT}` has where each bit goes, and what can be said of the error on new data.",
            "",
        ]
    )


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("the Hub needs huggingface_hub: pip install 'pyro-sws[hub]'") from error
    return huggingface_hub
