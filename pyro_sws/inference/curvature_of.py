"""The curvature that a network has at its trained weights, from inputs without labels.

Of a weight that multiplies something, the second moments of what it multiplies; how much each row
of products matters, and what other parameters matter, is of the Fisher matrix of the network's own
predictions.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batch_reading import LABELS, Read, Reading, behind
from pyro_sws.inference.batches import Part, check_reiterable, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.finite import defined
from pyro_sws.inference.first_batch import fewest
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.plain_numbers import whole
from pyro_sws.inference.progress import Callback, Progress, check_callback, ignore
from pyro_sws.weights.captured_inputs import CapturedInputs, Moments
from pyro_sws.weights.curvature import Block, Curvature, Layout
from pyro_sws.weights.structures import Structure, as_part

LOGGER = logging.getLogger("pyro_sws")
AT_ONCE = 16  # examples whose activations are kept; each such part is a draw of the Fisher matrix
FISHER_EXAMPLES = 512
DRAWS = 2  # of targets, for each part
LEAST_ROW = 1e-3  # of a tensor's mean: a row that happened to get no gradient is not free


def curvature(
    model: Joint,
    batches: Iterable,
    *,
    examples: int | None = None,
    rows: bool = True,
    seed: int = 0,
    callback: Callback | None = None,
) -> Curvature:
    """The network's own curvature at its trained weights: a Gaussian likelihood of them.

    A block's moments are the sum over positions of x x', the mean over examples, of the inputs x
    that the tensor's rows multiply. ``rows`` says how much each row of products matters: its share
    of the Fisher matrix's diagonal, of targets that are drawn from the network's own predictions
    (not of labels: Kunstner et al. 2019). Without, the squared change of each product counts as it
    is. Parameters that multiply nothing, as biases, or what was not seen (see ``CapturedInputs``),
    have the Fisher matrix's diagonal alone. Where there is none, as of a Loss or with
    ``rows=False``, changes count relative to a tensor's own size. What a network computes once for
    all examples of a batch, as the embedding of positions often is, counts once: rows of the Fisher
    matrix make up for that. The Fisher matrix is of the first FISHER_EXAMPLES: shuffle the data.

    Args:
        model: of the network, which computes in eval mode.
        batches: as the library reads them; targets may be missing or None, and inputs stand alone.
        examples: at most so many are used; all of them by default.
        seed: of the drawn targets.
        callback: told after each batch.

    Raises:
        TypeError: for batches that are none.
        ValueError: for no examples, and where what a tensor multiplies is not finite.
    """
    check_callback(callback)
    check_reiterable(batches, "batches")
    if examples is not None and whole("examples", examples) < 1:
        raise ValueError(f"examples must be at least 1, or None for all, got {examples}")
    device, _ = device_dtype(model)
    with torch.inference_mode(False), forked_rng(seed, device), torch.enable_grad():
        sums = _Sums(model, rows)
        for part in _parts(model, batches, examples, callback or ignore):
            sums.add(part)
        if not sums.examples:
            raise ValueError("batches has no examples; give at least one batch of inputs")
        return sums.curvature()


@torch.inference_mode(False)
@torch.no_grad()
def identity(model: Joint) -> Curvature:
    """Without any data: the squared change of each tensor, relative to its own squared size."""
    blocks = {}
    for name, tensor in _weights(model).items():
        layout = Layout.plain(tuple(tensor.shape))
        _, rows, columns = layout.matrix(tensor).shape
        blocks[name] = Block(
            at=tensor,
            moments=tensor.new_ones(1, columns),
            rows=_inverse(tensor.square().sum()).expand(1, rows).clone(),
            layout=layout,
        )
    return Curvature(blocks)


class _Sums:
    """What is summed up over parts of the data, of a few examples each."""

    def __init__(self, model: Joint, rows: bool):
        self.model, self.rows, self.examples, self.drawn = model, rows, 0, 0
        self.weights = {name: w.requires_grad_() for name, w in _weights(model).items()}
        self.inputs = CapturedInputs(self.weights)
        self.fisher: dict[str, Tensor] | None = {} if rows else None  # of what has gradients

    def add(self, part: Part) -> None:
        with pyro_step():
            with self.inputs:
                outputs = self.model.outputs(self.weights, part)
            if not defined(outputs, self.model.likelihood).all():
                self.curvature()  # names the tensor, where it is one's inputs
                raise ValueError("the network's outputs are not finite on these inputs")
            if self.fisher is not None and self.examples < FISHER_EXAMPLES:
                self._add_fisher(self.fisher, outputs, len(part))
        self.examples += len(part)

    def _add_fisher(self, fisher: dict[str, Tensor], outputs: Tensor, examples: int) -> None:
        """Scores of examples are independent and of mean 0: the square of their sum is summed."""
        try:
            log_prob = _log_prob(self.model, outputs)
            for _ in range(DRAWS):
                scores = torch.autograd.grad(
                    log_prob(), list(self.weights.values()), retain_graph=True, allow_unused=True
                )
                for name, score in zip(self.weights, scores, strict=True):
                    if score is not None:
                        square = (score.to_dense() if score.is_sparse else score).square()
                        fisher[name] = fisher[name].add_(square) if name in fisher else square
                self.drawn += examples
        except torch.OutOfMemoryError:
            raise
        except (ValueError, NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            LOGGER.warning("changes of weights count relative to their own size: %s", reason)
            self.fisher = None

    @torch.no_grad()
    def curvature(self) -> Curvature:
        """Raises ValueError for sums that are not finite."""
        moments, blocks = self.inputs.moments(), {}
        for name, weight in self.weights.items():
            at, fisher = weight.detach(), self._fisher(name)
            if name not in moments:
                unused = self.fisher is not None and fisher is None
                blocks[name] = _diagonal(at, torch.zeros_like(at) if unused else fisher)
                continue
            block = _without_rows(at, moments[name], max(1, self.examples))
            if not block.diagonal.isfinite().all():
                raise ValueError(
                    f"what {name!r} multiplies is not finite on these inputs; mend or leave out "
                    "the examples that make it so"
                )
            blocks[name] = replace(block, rows=self._rows(block, fisher))
        return Curvature(blocks, examples=self.examples)

    def _fisher(self, name: str) -> Tensor | None:
        """The mean over examples; None where no gradient reaches the tensor."""
        if self.fisher is None or name not in self.fisher:
            return None
        fisher = self.fisher[name] / self.drawn
        if not fisher.isfinite().all():
            raise ValueError(f"the gradients of {name!r} are not finite on these inputs")
        return fisher

    def _rows(self, block: Block, fisher: Tensor | None) -> Tensor:
        """(G, R): the Fisher matrix's share of each, or all as one."""
        if fisher is not None:
            rows = block.layout.matrix(fisher).sum(-1) * _inverse(block.diagonal.sum(-1))[:, None]
            return rows.clamp_min(LEAST_ROW * rows.mean())
        if not self.rows:
            return block.rows
        return block.rows * _inverse(2 * block.cost(torch.zeros_like(block.at)))


def _weights(model: Joint) -> dict[str, Tensor]:
    """Copies of the float parameters, each contiguous in memory of its own."""
    return {
        name: parameter.detach().clone(memory_format=torch.contiguous_format)
        for name, parameter in model.net.named_parameters()
        if parameter.is_floating_point() and parameter.numel()
    }


def _without_rows(at: Tensor, moments: Moments, examples: int) -> Block:
    """The block of a tensor that multiplies something, each row being worth 1."""
    means = moments.firsts / moments.positions.clamp_min(1)
    return Block(
        at=at,
        moments=(moments.seconds / examples).to(at.dtype),
        rows=at.new_ones(moments.layout.matrix(at).shape[:2]),
        layout=moments.layout,
        means=means.to(at.dtype),
        bias=moments.bias,
    )


def _diagonal(at: Tensor, fisher: Tensor | None) -> Block:
    """The block of a tensor whose weights are each for itself."""
    size = max(1, at.numel())
    each = _inverse(at.square().sum()).expand(size) if fisher is None else fisher
    return Block(
        at, each.reshape(1, -1).clone(), at.new_ones(1, 1), Layout((1, at.numel()), (0, 1))
    )


def _inverse(x: Tensor) -> Tensor:
    """1 / x, and 0 where there is none."""
    return torch.where(x > 0, 1 / x, torch.zeros_like(x))


def _log_prob(model: Joint, outputs: Tensor) -> Callable[[], Tensor]:
    """A function that draws targets and returns their log-density, summed over the examples.

    A learned noise is what a fit would start from. Raises ValueError where none can be drawn, or no
    gradient would reach a weight.
    """
    if not outputs.requires_grad:
        raise ValueError("no gradient of the outputs reaches a weight")
    start = {
        site: torch.as_tensor(model.initial_sites.get(site, value)).to(outputs)
        for site, value in model.likelihood.start().items()
    }
    density = poutine.condition(model.likelihood, data=start)(outputs)

    def drawn() -> Tensor:
        with torch.no_grad():
            targets = density.sample()
        return density.log_prob(targets).sum()

    return drawn


def _parts(model: Joint, batches: Iterable, most: int | None, callback: Callback) -> Iterator[Part]:
    """Inputs where the model is, a few at a time, or as many as its network takes no fewer of."""
    device, dtype = device_dtype(model)
    done, size = 0, AT_ONCE
    reading = batches.reading if isinstance(batches, Read) else Reading()
    for i, batch in enumerate(behind(batches)):
        given = _inputs(batch, reading, f"batches[{i}]")
        ((inputs, _),) = moved([(given, given)], "batches", device, dtype)
        if most is not None:
            inputs = inputs[: most - done]
        if size == AT_ONCE < len(inputs):
            size = fewest(model, inputs, AT_ONCE)
        for begin in range(0, len(inputs), size):
            yield inputs[begin : begin + size]
        done += len(inputs)
        callback(Progress("curvature", done, most or done))
        if most is not None and done >= most:
            return


def _inputs(batch: Any, reading: Reading, what: str) -> Part:
    """A batch's inputs, whose targets may be missing."""
    if reading.forward is not None:
        return Structure(batch, f"inputs of {what}", reading.forward)
    if isinstance(batch, Tensor | Structure):
        return batch
    alone = isinstance(batch, tuple | list) and len(batch) == 2 and batch[1] is None
    name = reading.targets or LABELS
    if alone or (isinstance(batch, Mapping) and isinstance(name, str) and name not in batch):
        return as_part(batch[0] if alone else batch, f"inputs of {what}")
    return reading(batch, what)[0]
