"""nncodec's files: its whole stream of a network's float weights, at each of its settings.

What its streams are short by: its trellis ("use_dq") at high rates, plain rounding at low ones, a
little of its rate term ("lambda_scale", which its own front end leaves at 0), steps that shrink
with a layer's share and spread ("opt_qp"), and no finer a step for vectors than a quarter of the
weights' ("nonweight_qp" None, where its default is some two bytes a number). Names are numbers, and
what a network in eval mode does without is left out. "ioq" shifts each tensor's qp by the score of
inputs: here by the KL divergence on those that the method is given.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_sws.weights.load import loaded
from scripts.post_training.lines import Line, Made
from scripts.post_training.networks import FUSED, GIVEN, Case, Judge

RUNNER = Path(__file__).with_name("nncodec_runner.py")
IGNORED = "num_batches_tracked"
ALWAYS = {"row_skipping": True, "param_opt": True, "cabac_unary_length_minus1": 10}
QPS = range(-36, 1, 2)  # at a density of 2 a step grows by sqrt(2) between neighbours
LAMBDAS = (0.0, 0.25, 0.5)
FINE = -75  # nncodec's default for what is no weight
NORM_KINDS = {
    "weight": "bn.gamma",
    "bias": "bn.beta",
    "running_mean": "bn.mean",
    "running_var": "bn.var",
}
HIDDEN = ("bnf", "nonweight_qp")  # follow from the form
IOQ_QPS = range(-32, -7, 4)
IOQ_JUDGED = 500

Settings = dict[str, Any]


def nncodec_lines(case: Case, python: Path, ioq: bool = False) -> Iterator[Line]:
    """A line a form of the network and a row of settings."""
    with _Runner(python, case) as runner:
        for form, net, folding, nonweight in _forms(case):
            for row in _ioq_rows() if ioq else _rows():
                given = {"bnf": folding, "nonweight_qp": nonweight}
                yield (runner.made(form, net, {**s, **given}) for s in row)


def _forms(case: Case) -> Iterator[tuple[str, nn.Module, bool, int | None]]:
    """Name, network, whether nncodec folds its norms itself, and the steps of vectors.

    Norms' statistics need fine steps.
    """
    norms = len(case.forms) > 1
    yield GIVEN, case.net, False, FINE if norms else None
    if norms:
        yield "nncodec's folding", case.net, True, None
    if FUSED in case.forms:
        yield FUSED, case.forms[FUSED], False, None


def _rows() -> Iterator[list[Settings]]:
    for trellis in (True, False):
        for scale in LAMBDAS:
            yield [{"qp": qp, "use_dq": trellis, "lambda_scale": scale} for qp in QPS]
        yield [{"qp": qp, "use_dq": trellis, "opt_qp": True} for qp in QPS]


def _ioq_rows() -> Iterator[list[Settings]]:
    for trellis in (True, False):
        yield [{"qp": qp, "use_dq": trellis, "ioq": True} for qp in IOQ_QPS]


class _Runner:
    """nncodec's process, and the files that are exchanged with it."""

    def __init__(self, python: Path, case: Case):
        self.python, self.case = python, case

    def __enter__(self) -> "_Runner":
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [str(self.python), str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(Path(self.folder.name) / "log.txt").open("w"),
            cwd=self.folder.name,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()

    def made(self, form: str, net: nn.Module, settings: Settings) -> Made:
        names, tensors = _numbered(net)
        folder = Path(self.folder.name)
        np.savez(folder / "weights.npz", **tensors)  # type: ignore[arg-type]
        blocks = _blocks(net, names) if settings["bnf"] else None
        request = {
            "weights": str(folder / "weights.npz"),
            "decoded": str(folder / "decoded.npz"),
            "settings": {**ALWAYS, **settings},
            "blocks": blocks,
        }
        answer = self._asked(request)
        while "candidate" in answer:
            candidate = _filled(net, names, Path(answer["candidate"]))
            answer = self._asked({"score": -self._ioq_judge.of(candidate).kl_nats})
        decoded = _filled(net, names, folder / "decoded.npz")
        said = ", ".join(f"{key} {value}" for key, value in settings.items() if key not in HIDDEN)
        setting = said if form == GIVEN else f"{form}, {said}"
        return Made(setting, answer["bytes"], decoded, answer["seconds"], answer["peak_megabytes"])

    @property
    def _ioq_judge(self) -> Judge:
        inputs = self.case.inputs[:IOQ_JUDGED]
        return Judge(self.case.net, inputs, self.case.judge.log_probabilities)

    def _asked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            log = (Path(self.folder.name) / "log.txt").read_text()
            raise RuntimeError(f"nncodec stopped: {log.strip()[-2000:]}")
        return json.loads(line)


def _numbered(net: nn.Module) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """A tensor's name -> the number that nncodec knows it by, and the tensors by number."""
    own = {**dict(net.named_parameters()), **_saved_buffers(net)}
    needed = {name: tensor for name, tensor in own.items() if not name.endswith(IGNORED)}
    names = {name: str(i) for i, name in enumerate(needed)}
    arrays = {names[n]: t.detach().cpu().float().numpy() for n, t in needed.items()}
    return names, {number: np.ascontiguousarray(array) for number, array in arrays.items()}


def _saved_buffers(net: nn.Module) -> dict[str, Any]:
    saved = net.state_dict().keys()
    return {name: tensor for name, tensor in net.named_buffers() if name in saved}


def _filled(net: nn.Module, names: Mapping[str, str], file: Path) -> nn.Module:
    """The network with what nncodec decoded."""
    with np.load(file) as stored:
        decoded = {number: stored[number] for number in stored.files}
    for layer, norm in _normed(net):
        decoded |= _as_norm(decoded, names, layer, norm)
    kept = {n: t.numpy() for n, t in _saved_buffers(net).items() if n.endswith(IGNORED)}
    return loaded(net, {**{name: decoded[number] for name, number in names.items()}, **kept})


def _as_norm(
    decoded: Mapping[str, np.ndarray], names: Mapping[str, str], layer: str, norm: str
) -> dict[str, np.ndarray]:
    """A folded norm's tensors, by number: what a layer was scaled by, and its bias then.

    nncodec has no bias of a norm that was folded, and a scale beside its layer's weight.
    """
    weight, bias = names[_in(layer, "weight")], names.get(_in(layer, "bias"))
    scale = decoded.get(f"{weight}_scaling")
    if scale is None:
        return {}
    shift = decoded[bias or f"{weight}.bias"]
    parts = {
        "weight": scale,
        "bias": shift,
        "running_mean": 0 * scale,
        "running_var": 0 * scale + 1,
    }
    own = {bias: 0 * shift} if bias else {}
    return own | {names[_in(norm, part)]: values for part, values in parts.items()}


def _blocks(net: nn.Module, names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """As nncodec wants it: each tensor's kind, and the layer that it belongs to."""
    kinds = {name: "weight" if _is_weight(net, name) else "unspecified" for name in names}
    owners: dict[str, str | None] = dict.fromkeys(names, None)
    for layer, norm in _normed(net):
        for part, kind in {"weight": "weight", "bias": "bias"}.items():
            _note(kinds, owners, _in(layer, part), kind, layer)
        for part, kind in NORM_KINDS.items():
            _note(kinds, owners, _in(norm, part), kind, layer)
    return {
        "parameter_type": {names[name]: kind for name, kind in kinds.items()},
        "block_identifier": {names[name]: layer for name, layer in owners.items()},
    }


def _note(kinds: dict, owners: dict, name: str, kind: str, layer: str) -> None:
    if name in kinds:
        kinds[name], owners[name] = kind, layer


def _normed(net: nn.Module) -> Iterator[tuple[str, str]]:
    """Layers and the norms that come after them among the modules, by name."""
    layer = None
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer = name
        elif isinstance(module, _BatchNorm) and layer is not None:
            yield layer, name
            layer = None


def _in(module: str, tensor: str) -> str:
    return f"{module}.{tensor}" if module else tensor


def _is_weight(net: nn.Module, name: str) -> bool:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}[name].dim() > 1
