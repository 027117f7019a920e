"""A sweep over what a bit is worth: a file for each rate, and how well it predicts."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.assess.report.shapes import PostTrainingRow
from pyro_sws.codec.container import encode
from pyro_sws.compression.post_training.agreement import Agreement
from pyro_sws.compression.post_training.choose import Problem
from pyro_sws.compression.post_training.families import Values, choose_values
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.post_training.tensor import Chosen, settled
from pyro_sws.compression.walk.frontier import Frontier, Point
from pyro_sws.compression.walk.judge import Judge
from pyro_sws.inference.fit import as_weights, mixtures
from pyro_sws.inference.history import History, HistoryRow
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.progress import Callback, Progress, ignore
from pyro_sws.weights.around import base_of
from pyro_sws.weights.curvature import Block, Curvature
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.weight_prior import MixturePrior

FACTOR = 2.0  # from one rate to the next
NEAR, LEAP = 0.1, 8.0  # tolerances that are hardly a loss; where no more is lost factors are larger
LOW = 0.25  # of all files, at most, are made on the way to one that has lost so little
FAR = 3.0  # tolerances beyond which no rate is tried, unless refinement sets out from there
CLOSER = 3  # rates between the last file within the tolerance and the first beyond it
# What the first rate's bits are worth together, at one bit a weight: this share of the nats that
# the curvature says all weights are worth. Of a network that is sure of itself that is little.
FIRST = 0.005
NARROW = 1 / 30  # width of a component, in steps: what refinement widens is a third of one


@dataclass(frozen=True, eq=False)
class Found:
    """A rate's file, and what it was made of."""

    rate: float
    predicted_nats: float  # an example, that the curvature says the file loses
    point: Point
    posterior: Posterior


@dataclass(frozen=True, eq=False)
class Swept:
    """All files."""

    found: tuple[Found, ...]
    judge: Judge | Agreement
    history: History  # a row a file

    @property
    def frontier(self) -> Frontier:
        judge = self.judge
        points = tuple(found.point for found in self.found)
        return Frontier(points, judge.reference, judge.tolerance, judge.unit, judge.name)

    def shortest(self, tolerances: float = 1.0) -> Found | None:
        """Of those that lose so many tolerances at most; None if there is none."""
        judge = self.judge
        limit = judge.reference + tolerances * judge.tolerance
        within = [found for found in self.found if found.point.score <= limit]
        return min(within, key=lambda own: (own.point.bytes, own.point.score), default=None)

    def row(self, best: Found) -> PostTrainingRow:
        """What the report says of the file that comes back."""
        judge = self.judge
        each = judge.targets_an_example if isinstance(judge, Agreement) else 1.0
        return {
            "judged_on": judge.name,
            "unit": judge.unit,
            "reference": judge.reference,
            "tolerance": judge.tolerance,
            "score": best.point.score,
            "files": len(self.found),
            "rate": best.rate,
            "predicted_nats": best.predicted_nats / each,
        }


def sweep(
    model: Joint,
    values: Mapping[str, Values],
    curvature: Curvature,
    judge: Judge | Agreement,
    settings: PostTraining,
    *,
    codebook_dtype: str = "float16",
    far: float = FAR,
    callback: Callback | None = None,
) -> Swept:
    """Files at rates from small to large, more of them where the tolerance is crossed.

    Args:
        model: what ``joint`` returned: its groups are the tensors that are chosen for.
        values: of its groups, see ``values_of``.
        curvature: of the network; tensors of the model without a block are an error.
        judge: what a network is held to.
        settings: how it goes.
        codebook_dtype: of the stored values, "float16" or "float32".
        far: tolerances, beyond which no rate is tried.
        callback: is told of each file, of the stage "post-training".
    """
    sweeper = _Sweeper(
        model, values, curvature, judge, settings, codebook_dtype, far, callback or ignore
    )
    if settings.rate is not None:
        sweeper.file(settings.rate)
    else:
        sweeper.outwards()
        sweeper.closer()
    return Swept(tuple(sweeper.found), judge, sweeper.history)


class _Sweeper:
    def __init__(
        self,
        model: Joint,
        values: Mapping[str, Values],
        curvature: Curvature,
        judge: Judge | Agreement,
        settings: PostTraining,
        codebook_dtype: str,
        most_lost: float,
        tell: Callback,
    ):
        self.model, self.values, self.judge, self.settings = model, values, judge, settings
        self.codebook_dtype, self.most_lost, self.tell = codebook_dtype, most_lost, tell
        self.blocks = {
            name: curvature.blocks[name] for group in model.groups.values() for name in group.shapes
        }
        self.added_to = {block.bias: name for name, block in self.blocks.items() if block.bias}
        self.found: list[Found] = []
        self.history: History = []
        self.chosen: dict[float, dict[str, Chosen]] = {}  # by rate
        self.began = time.perf_counter()

    def outwards(self) -> None:
        """Rates from where hardly anything is lost to where a file is far beyond the tolerance."""
        size = sum(group.size for group in self.model.groups.values())
        worth = sum(float(block.cost(torch.zeros_like(block.at))) for block in self.blocks.values())
        rate = FIRST * (worth or 1.0) / size
        found = self.file(rate)
        while self.room() and not self.low_enough(found):
            rate /= FACTOR**2
            found = self.file(rate)
        found = self.found[0]
        while self.room() and not self.far(found):
            factor = LEAP if self.hardly_lost(found) else FACTOR
            found = self.file(found.rate * factor)

    def low_enough(self, found: Found) -> bool:
        """Whether no smaller rate need be tried: few files are made that are needlessly good."""
        few = len(self.found) >= LOW * self.settings.files
        return found.point.within and (few or self.hardly_lost(found))

    def hardly_lost(self, found: Found) -> bool:
        judge = self.judge
        return found.point.score <= judge.reference + NEAR * judge.tolerance

    def closer(self) -> None:
        """Rates between the largest whose file is within the tolerance and the next one."""
        for _ in range(CLOSER):
            within = [f.rate for f in self.found if f.point.within]
            beyond = [f.rate for f in self.found if not f.point.within]
            beyond = [rate for rate in beyond if not within or rate > max(within)]
            if not within or not beyond or not self.room():
                return
            self.file((max(within) * min(beyond)) ** 0.5)

    def room(self) -> bool:
        return len(self.found) < self.settings.files

    def far(self, found: Found) -> bool:
        judge = self.judge
        return found.point.score > judge.reference + self.most_lost * judge.tolerance

    def file(self, rate: float) -> Found:
        """The file of one rate."""
        chosen = self._choices(rate)
        posterior = self._posterior(chosen, rate)
        seconds = time.perf_counter() - self.began
        point = point_of(
            self.model, self.judge, posterior, self.codebook_dtype, len(self.found), seconds
        )
        found = Found(rate, sum(own.nats for own in chosen.values()), point, posterior)
        self.found.append(found)
        self.history.append(self._row(found))
        self.tell(Progress("post-training", len(self.found), self.settings.files, self.history[-1]))
        return found

    def _row(self, found: Found) -> HistoryRow:
        """As of an epoch: what the curvature says of all examples, and the length of the file."""
        error = self.model.data_size * found.predicted_nats
        complexity = 8 * found.point.bytes * math.log(2)
        before = self.found[-2].point.seconds if len(self.found) > 1 else 0.0
        return {
            "epoch": len(self.found),
            "negative_elbo_nats": error + found.point.tau * complexity,
            "error_cost_nats": error,
            "complexity_cost_nats": complexity,
            "mixtures": mixtures(found.posterior.priors),
            "seconds": found.point.seconds - before,
            "validation_quantized": found.point.score if math.isfinite(found.point.score) else None,
            "file_bytes": found.point.bytes,
        }

    def _choices(self, rate: float) -> dict[str, Chosen]:
        """Of each tensor; biases after what they are added to, whose errors they make up for."""
        below = max((own for own in self.chosen if own <= rate), default=None)
        before = {} if below is None else self.chosen[below]
        chosen: dict[str, Chosen] = {}
        early: list[str] = []  # biases that were chosen before what they are added to, or with it
        for group, names in self._together():
            early += [name for name in names if self._source(name) not in chosen]
            chosen |= self._chosen(group, names, rate, chosen, before)
        for name in early:
            if self._source(name) is not None:
                book, problem = chosen[name].book, self._problem(name, chosen)
                chosen[name] = settled(problem, book, rate, self.settings.descents)
        self.chosen[rate] = chosen
        return chosen

    def _together(self) -> list[tuple[str, list[str]]]:
        """Groups, and tensors of theirs that are chosen together, biases alone last."""
        parts: list[tuple[str, list[str]]] = []
        for name, group in self.model.groups.items():
            apart = self.values[name].apart
            parts += [(name, [own]) for own in group.shapes] if apart else [(name, [*group.shapes])]
        return sorted(parts, key=lambda part: all(own in self.added_to for own in part[1]))

    def _chosen(
        self,
        group: str,
        names: Sequence[str],
        rate: float,
        chosen: Mapping[str, Chosen],
        before: Mapping[str, Chosen],
    ) -> dict[str, Chosen]:
        """Of tensors that are chosen together, after those in ``chosen``."""
        values = self.values[group]
        problems = [self._problem(name, chosen) for name in names]
        books = [values.of(name, self.blocks[name]) for name in names]
        last = [before[name] for name in names] if before else None
        found = choose_values(values, problems, books, rate, self.settings.descents, last)
        return dict(zip(names, found, strict=True))

    def _source(self, name: str) -> str | None:
        """What a bias is added to, whose errors it makes up for."""
        return self.added_to.get(name) if self.settings.correct_bias else None

    def _problem(self, name: str, chosen: Mapping[str, Chosen]) -> Problem:
        """A tensor's; a bias makes up for the errors of what it is added to, if that is chosen."""
        block, source = self.blocks[name], self._source(name)
        if source is not None and source in chosen:
            block = _corrected(block, self.blocks[source], chosen[source])
        return Problem.of(block, self.settings.damping)

    @property
    def noise(self) -> dict[str, Tensor]:
        start = self.model.start()
        return {site: start[site] for site in self.model.likelihood.start()}

    def _posterior(self, chosen: Mapping[str, Chosen], rate: float) -> Posterior:
        """All weights at values of their codebook, times scales where the prior has those."""
        model, point, priors = self.model, dict(self.noise), {}
        for name, group in model.groups.items():
            levels = self._flat(group, {own: chosen[own].levels for own in group.shapes})
            scales = self._flat(group, {own: chosen[own].scales for own in group.shapes})
            width = NARROW * min(chosen[own].book.spacing for own in group.shapes)
            point[weights_site(name)] = levels * scales
            scaled = self.values[name].scaled
            if not scaled:
                levels, width = levels * scales, width * float(scales[0])
            means, counts = levels.unique(return_counts=True)
            precisions = torch.full_like(means, width**-2)
            mixture = Mixture(means, precisions, counts.to(means) / counts.sum())
            priors[name] = MixturePrior(mixture, scales if scaled else None)
        tau = rate / math.log(2) * model.data_size
        return Posterior(model.groups, point, priors, model.raw(), tau, base=base_of(model.net))

    def _flat(self, group: Group, matrices: Mapping[str, Tensor]) -> Tensor:
        """Tensors, each as its layout's matrix, as one vector in the group's dtype."""
        layouts = {name: self.blocks[name].layout for name in matrices}
        return group.flatten(
            {n: layouts[n].tensor(m, group.shapes[n]) for n, m in matrices.items()}
        )


def point_of(
    model: Joint,
    judge: Judge | Agreement,
    posterior: Posterior,
    codebook_dtype: str,
    step: int,
    seconds: float,
    passes: float = 0.0,
) -> Point:
    """The file of a posterior, and how well its network predicts."""
    quantized = quantize(posterior, codebook_dtype)
    data = encode(quantized)
    noise = {site: posterior.point[site] for site in model.likelihood.start()}
    score = judge.score(as_weights(model, quantized.dequantize()), noise)
    return Point(
        step=step,
        bytes=len(data),
        score=score,
        within=score <= judge.limit,
        width=NARROW,
        tau=posterior.tau,
        nonzero_percent=100 * quantized.nonzero / max(1, quantized.size),
        passes=passes,
        seconds=seconds,
        data=data,
    )


def _corrected(bias: Block, source: Block, chosen: Chosen) -> Block:
    """The bias, with the mean of what its source's errors take from the outputs added to it."""
    if source.means is None:
        return bias
    missing = source.layout.matrix(source.at) - chosen.values
    shift = (missing * source.means[:, None]).sum(-1).reshape(bias.at.shape)
    return replace(bias, at=bias.at + shift.to(bias.at))
