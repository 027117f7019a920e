"""Particles: a program that samples for one of them, run for all that the plates around ask for."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import get_plates
from torch import Tensor

from pyro_sws.inference.at_point import Site, is_a_plates

Result = TypeVar("Result")


def plates_around(examples: bool = True) -> torch.Size:
    """The batch shape of the plates in which this is called: (P, 1) for P particles of a model.

    Empty where there are none. Raises ValueError for a plate at dim -1, the examples' own, where
    the model has ``examples``.
    """
    sizes: dict[int, int] = {}
    for frame in get_plates():
        if examples and frame.dim == -1:
            raise ValueError(
                f"plate {frame.name!r} lies at dim -1, which is that of the examples; put it "
                "further to the left: max_plate_nesting=1 of an ELBO, dim=-2 of a plate"
            )
        if frame.dim is not None:
            sizes[frame.dim] = frame.size
    return torch.Size(sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0))


def run_each(programs: Sequence[Callable[[], Result]], around: torch.Size) -> list[Result]:
    """The results of one program for each particle, which sample as if they were alone.

    Without plates around, that one program is simply run. Else a site is one site, of batch shape
    ``around``, for all handlers outside. What a later site's distribution is may depend on the
    particle. So each program runs up to the first site whose value is not known, all particles'
    values are sampled at once, and it runs again from its start: what programs do between their
    sites should be cheap. Raises ValueError where sites differ.
    """
    if not around:
        return [program() for program in programs]
    known: list[dict[str, Tensor]] = [{} for _ in programs]
    plates: dict[str, pyro.plate] = {}
    while True:
        runs = [_run(program, values) for program, values in zip(programs, known, strict=True)]
        reached = [run for run in runs if isinstance(run, _Reached)]
        if not reached:
            return runs  # type: ignore[return-value]
        sites = [run.site for run in reached]
        names = {site["name"] for site in sites}
        if len(names) > 1 or len(sites) < len(runs):
            raise ValueError(
                f"sites differ from particle to particle: some have {', '.join(sorted(names))}; "
                "draw one at a time, without vectorize_particles or parallel"
            )
        for values, value in zip(known, _sampled(sites, around, plates), strict=True):
            values[sites[0]["name"]] = value


class ByParticle(dist.TorchDistribution):
    """A distribution for each particle, side by side; batch_shape ``around``, and their own.

    ``around`` is as ``plates_around`` says. ``scales`` and ``masks``, one for each, are on the
    log-densities.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        each: Sequence[dist.TorchDistribution],
        around: torch.Size,
        scales: Sequence[float | Tensor] | None = None,
        masks: Sequence[bool | Tensor | None] | None = None,
    ):
        self.each = tuple(each)
        self.scales = scales or [1.0] * len(self.each)
        self.masks = masks or [None] * len(self.each)
        self._one = torch.Size(self.each[0].batch_shape)
        # Dimensions of the program's own lie to the right of all plates around it.
        free = len(around) - max((i + 1 for i, size in enumerate(around) if size > 1), default=0)
        if len(self._one) > free:
            raise ValueError(
                f"plates of shape {tuple(around)} around the model overlap with its own, of shape "
                f"{tuple(self._one)}; put them further to the left"
            )
        shape = torch.broadcast_shapes(around, self._one)
        super().__init__(torch.Size(shape), self.each[0].event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(one.has_rsample for one in self.each)

    @constraints.dependent_property
    def support(self):
        return self.each[0].support

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """Each particle's own part of a value, in the shape that it has for one alone."""
        shape = self.batch_shape + self.event_shape
        # As many numbers as there should be: Pyro's Predictive leaves out dimensions of size 1.
        whole = value if value.numel() == shape.numel() else value.expand(shape)
        return whole.reshape(len(self.each), *self._one, *self.event_shape).unbind(0)

    def log_prob(self, value: Tensor) -> Tensor:
        parts = zip(self.each, self.split(value), self.scales, self.masks, strict=True)
        log_probs = [
            scale_and_mask(one.log_prob(own), scale, mask) for one, own, scale, mask in parts
        ]
        return torch.stack(log_probs).reshape(self.batch_shape)

    def sample(self, sample_shape=()):
        with torch.no_grad():
            return self._joined([one.sample(sample_shape) for one in self.each], sample_shape)

    def rsample(self, sample_shape=()):
        return self._joined([one.rsample(sample_shape) for one in self.each], sample_shape)

    def expand(self, batch_shape, _instance=None):
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return dist.ExpandedDistribution(self, batch_shape)

    def _joined(self, draws: list[Tensor], sample_shape) -> Tensor:
        sample_shape = torch.Size(sample_shape)
        whole = torch.stack(draws, len(sample_shape))
        return whole.reshape(sample_shape + self.batch_shape + self.event_shape)


class _Reached(Exception):
    """The first site of a run whose value is not known."""

    def __init__(self, site: Site):
        super().__init__(site["name"])
        self.site = site


class _UpTo(Messenger):
    """Gives sites their known values, and stops at the first one without."""

    def __init__(self, values: dict[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Site) -> None:
        if is_a_plates(msg):
            return
        if msg["name"] not in self.values:
            raise _Reached(msg)
        msg["value"], msg["done"] = self.values[msg["name"]], True


def _run(program: Callable[[], Result], values: dict[str, Tensor]) -> Result | _Reached:
    """What a program returns, or the site that it cannot go beyond; unseen by the handlers."""
    try:
        with poutine.block(hide_fn=lambda msg: msg["type"] == "sample"), _UpTo(values):
            return program()
    except _Reached as reached:
        return reached


def _sampled(
    sites: list[Site], around: torch.Size, plates: dict[str, pyro.plate]
) -> tuple[Tensor, ...]:
    """The particles' values of one site, sampled together."""
    first = sites[0]
    density = ByParticle(
        [site["fn"] for site in sites],
        around,
        [site["scale"] for site in sites],
        [site["mask"] for site in sites],
    )
    with ExitStack() as stack:
        for frame in first["cond_indep_stack"]:  # plates in the program
            if frame.name not in plates:
                plates[frame.name] = pyro.plate(frame.name, frame.size, dim=frame.dim)
            stack.enter_context(plates[frame.name])
        observed = None
        if first["is_observed"]:
            observed = density._joined([site["value"] for site in sites], ())
        return density.split(
            pyro.sample(first["name"], density, obs=observed, infer=first["infer"].copy())
        )
