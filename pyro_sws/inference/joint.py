"""The joint density of hyperparameters, weights and targets, over an untouched network."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_sws.inference.batches import Part
from pyro_sws.inference.density import Density
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.initial_values import initial_values
from pyro_sws.inference.isolation import NoSites, RefusedInTrace, check_no_pyro_module
from pyro_sws.inference.likelihoods import Likelihood, as_likelihood, fitted
from pyro_sws.inference.of_weights import OfWeights
from pyro_sws.inference.particles import ByParticle, plates_around, run_each
from pyro_sws.inference.placement import check_device, check_dtype
from pyro_sws.inference.plain_numbers import instance, real, whole
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule, apply_rules, as_rules
from pyro_sws.inference.priors.shared import SharedSites
from pyro_sws.inference.subsampling import Subset, draw_subset
from pyro_sws.inference.teacher import Teacher
from pyro_sws.inference.weight_distribution import WeightDistribution
from pyro_sws.inference.without_kl import NoFormula
from pyro_sws.weights.curvature import Curvature
from pyro_sws.weights.group import Group
from pyro_sws.weights.network import check_network, copied, make_gradients_dense, plain
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.raw import rounded_raw
from pyro_sws.weights.structures import (
    as_part,
    fed_with,
    named_output,
    shape_of,
    tensors_in,
    value_of,
)
from pyro_sws.weights.weight_prior import WeightPrior, snapped

NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
# What a network's forward may raise for inputs or weights that it cannot take.
NETWORK_ERRORS = (
    *(RuntimeError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, NameError, AssertionError),
)


@dataclass(frozen=True, eq=False)
class Joint:
    """A Pyro model, ``model(inputs, targets=None)``, with what it was made of at hand.

    Of a ``Curvature`` it is ``model()``: no data, and no pass through the network.

    Its log-density is log p(targets | weights) + tau (log p(weights | hyperparameters)
    + log p(hyperparameters)): under a delta guide -ELBO is Ullrich et al. 2017, eqs. 6-7, in nats
    summed over the data (docs/theory.md, eq. 4). In a plate around it, as ``vectorize_particles``
    and ``Predictive(parallel=True)`` put one, every particle has weights and outputs of its own.
    """

    net: nn.Module  # a copy, in eval mode: the caller's network is never written to
    groups: Mapping[str, Group]
    priors: Mapping[str, Prior]
    uncovered: tuple[str, ...]  # float parameters that no rule covers
    given_dtypes: Mapping[str, torch.dtype]  # of the caller's tensors, by name
    likelihood: Likelihood
    data_size: int
    tau: float
    density: Density = Density()  # how it is computed while fitting
    ranks: Ranks = Ranks()
    initial_weights: Mapping[str, Tensor] = field(default_factory=dict)  # by tensor, see start()
    initial_sites: Mapping[str, Tensor] = field(default_factory=dict)  # of hyperparameters
    straight_through: bool = False  # the network computes with snapped weights, see ``refine``
    unrounded: dict[str, Tensor] = field(default_factory=dict)  # raw ones that ``net`` rounds
    rounding: str = "exact"  # of raw tensors, see ``rounded_raw``
    # By name, of the raw tensors that are rounded so: as a file has them, and what they were
    stored: dict[str, Tensor] = field(default_factory=dict)
    exact: dict[str, Tensor] = field(default_factory=dict)
    teacher: Teacher | None = None  # of soft targets; None: ``net``, asked anew every time

    def __call__(self, inputs: Any = None, targets: Any = None) -> Tensor | None:
        """Sample all sites, and targets, or score those given; (B, ...), in a plate (P, B, ...).

        Returns None where the likelihood is of weights. Raises ValueError inside torch.jit, and for
        a plate around it at the examples' dim, -1; TypeError for data where none is read, and for
        none where some is.
        """
        if torch.jit.is_tracing():
            raise RefusedInTrace(
                "torch.jit cannot trace a network that is run with sampled weights; take "
                "Trace_ELBO for JitTrace_ELBO, and NUTS without jit_compile"
            )
        self._check_given(inputs)
        around = plates_around(self.reads_data)
        inputs, targets = as_part(inputs, "inputs"), as_part(targets, "targets")
        with self._tempered():  # hyperpriors too: they are part of the model's cost
            weights = run_each([self.sample_weights] * around.numel(), around)
        if self.reads_data:
            return self.observe(weights, inputs, targets)
        costs = torch.stack([self.weight_cost(own) for own in weights])
        pyro.factor(self.error_site, -(costs.reshape(around) if around else costs[0]))
        return None

    @property
    def reads_data(self) -> bool:
        """Whether the likelihood is of targets, given outputs; a curvature's is of weights."""
        return not isinstance(self.likelihood, OfWeights)

    @property
    def error_site(self) -> str:
        """The site whose log-density is -(error cost)."""
        return "targets" if self.reads_data else "curvature"

    def weight_cost(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The error cost in nats of weights by tensor name, where that takes no data; a scalar."""
        assert isinstance(self.likelihood, OfWeights)
        return self.data_size * self.likelihood.cost(weights)

    def _check_given(self, inputs: Any) -> None:
        if inputs is None and self.reads_data:
            raise TypeError("the likelihood is of targets: call model(inputs, targets)")
        if inputs is not None and not self.reads_data:
            raise TypeError("the likelihood is of weights and reads no data: call model()")

    def observe(
        self, weights: Sequence[Mapping[str, Tensor]], inputs: Part, targets: Part | None
    ) -> Tensor:
        """Sample targets, or score those given, under the network with each particle's weights."""
        around = plates_around()
        (inputs, *rest), factor = self.ranks.examples(
            [inputs] if targets is None else [inputs, targets]
        )
        outputs = [self._fast_outputs(own, inputs) for own in weights]
        if rest:
            for own in outputs:
                self.likelihood.check(own, value_of(rest[0]))
        with self._tempered():  # a learned noise is part of the model's cost
            each = run_each([partial(self._scored, own, inputs, *rest) for own in outputs], around)
        densities, values = zip(*each, strict=True)
        observed = ByParticle(densities, around) if around else densities[0]
        batch = torch.arange(len(inputs))  # subsample_size= would draw a permutation a step
        data = pyro.plate("data", self.data_size, subsample=batch)
        with data, poutine.scale(scale=factor or 1.0), poutine.mask(mask=factor > 0):
            return pyro.sample("targets", observed, obs=values[0])

    @contextmanager
    def _tempered(self) -> Iterator[None]:
        with poutine.scale(scale=self.tau), nullcontext() if self.tau == 1 else NoFormula():
            yield

    def sample_weights(self) -> dict[str, Tensor]:
        """Tensor name -> weights, drawn under freshly sampled hyperparameters: one site a group."""
        weights: dict[str, Tensor] = {}
        for group, prior, flat in sample_flat(
            self.groups, self.priors, self.density.way, self._subset
        ):
            flat = snapped(prior, group, flat) if self.straight_through else flat
            weights |= group.split(flat)
        return weights

    def _subset(self, group: Group) -> Subset | None:
        return draw_subset(group.size, self.density.prior_subsample, self.ranks, group.device)

    def _scored(
        self, outputs: Tensor, inputs: Part, targets: Part | None = None
    ) -> tuple[dist.TorchDistribution, Tensor | None]:
        """The density as a fit counts it, and what Pyro is to observe under it."""
        if targets is not None and hasattr(self.likelihood, "given"):
            return self.likelihood.given(outputs, value_of(targets))
        return self.observed(outputs, inputs), None if targets is None else value_of(targets)

    def observed(self, outputs: Tensor, inputs: Part) -> dist.TorchDistribution:
        """p(targets | outputs) as a fit counts it: with soft targets, if the likelihood has any."""
        if not hasattr(self.likelihood, "taught"):
            return fitted(self.likelihood, outputs)
        if self.teacher is not None:
            return self.likelihood.taught(outputs, self.teacher(inputs))
        with torch.no_grad():
            teacher = self.outputs(self.exact, inputs)
        return self.likelihood.taught(outputs, teacher)

    def _fast_outputs(self, weights: Mapping[str, Tensor], inputs: Part) -> Tensor:
        """The outputs as a fit computes them: under autocast, where that is wanted."""
        precision = self.density.autocast_dtype
        if precision is None:
            return self.outputs(weights, inputs)
        with torch.autocast(inputs.device.type, precision):
            outputs = self.outputs(weights, inputs)
        return outputs.to(next(iter(weights.values())).dtype)

    def outputs(self, weights: Mapping[str, Tensor], inputs: Part) -> Tensor:
        """The network's outputs with these weights; its own tensors stay as they are.

        Raises ValueError, in one line, where the network cannot compute them, returns no tensor, or
        samples in Pyro.
        """
        # Cloned: batch norm, were a user's module to force train mode, would write into them.
        buffers = {name: b.clone() for name, b in self.net.named_buffers()}
        return outputs_of(self.net, {**buffers, **weights}, inputs, self.likelihood)

    @torch.no_grad()
    def refill(self, net: nn.Module) -> None:
        """Write the tensors of ``net``, of the same form, into the model's own copy."""
        given = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        for name, tensor in {
            **dict(self.net.named_parameters()),
            **dict(self.net.named_buffers()),
        }.items():
            tensor.copy_(given[name])
        self.unrounded.clear()
        self.unrounded.update(_unrounded(net, self.net, self.groups))
        self.round_raw()

    @torch.no_grad()
    def round_raw(self) -> None:
        """Round the raw tensors of ``net``, the model's own copy."""
        self.stored.clear()
        self.exact.clear()
        coded = {
            name: tuple(s) for group in self.groups.values() for name, s in group.shapes.items()
        }
        own = {**dict(self.net.named_buffers()), **dict(self.net.named_parameters())}
        self.stored.update(rounded_raw(self.raw(), coded, self.rounding))
        for name, values in self.stored.items():
            self.exact[name] = own[name].clone()
            own[name].copy_(values)

    @torch.no_grad()
    def unrounded_raw(self) -> "Joint":
        """The model of the network with its raw tensors as they were; itself where none changed."""
        if not self.exact:
            return self
        own = copied(self.net)
        tensors = {**dict(own.named_buffers()), **dict(own.named_parameters())}
        for name, values in self.exact.items():
            tensors[name].copy_(values)
        return replace(self, net=own, rounding="exact", stored={}, exact={})

    @torch.inference_mode(False)
    def start(self) -> dict[str, Tensor]:
        """Starting values by site: weights, and each spec's start given them.

        The weights are the network's own, but for the tensors in ``initial_weights``, and what is
        in ``initial_sites`` has its value from there.
        """
        first = next(iter(self.groups.values()))
        weights = {**dict(self.net.named_parameters()), **self.initial_weights}
        values = {site: first.constant(x) for site, x in self.likelihood.start().items()}
        for name, group in self.groups.items():
            flat = group.flatten(weights)
            values[weights_site(name)] = flat
            for site, value in self.priors[name].start(group, flat).items():
                values.setdefault(site, value)  # of what groups share, the first one's
        return {**values, **self.initial_sites}

    def raw(self) -> dict[str, Tensor]:
        """What no prior covers and the network still needs, as a file has it.

        Other parameters, and the buffers that a state dict has; in the dtypes that they were given
        in, or those to which they are rounded.
        """
        covered = {name for group in self.groups.values() for name in group.shapes}
        parameters = dict(self.net.named_parameters())  # tied parameters once
        buffers = dict(self.net.named_buffers())
        state = self.net.state_dict()
        own = {**buffers, **parameters}
        # A state dict may leave parameters out, as hooks of frozen ones do; the file has them all.
        names = [*state, *(name for name in parameters if name not in state)]
        return {
            name: self.stored[name]
            if name in self.stored
            else _storable(self.unrounded.get(name, own[name]).detach().to(self.given_dtypes[name]))
            for name in names
            if name in own and name not in covered
        }


def sample_flat(
    groups: Mapping[str, Group],
    priors: Mapping[str, Prior],
    way: str = "auto",
    subset: Callable[[Group], Subset | None] = lambda group: None,
) -> Iterator[tuple[Group, WeightPrior, Tensor]]:
    """Sample each group's hyperparameters and flat weights (size,): one site of weights a group.

    ``way``: how the density is computed, see ``Density``. ``subset``: of which weights.
    """
    shared = SharedSites()
    for name, group in groups.items():
        drawn = subset(group)
        with shared:
            prior = priors[name](group)
        density = WeightDistribution(prior, group, way, drawn)
        yield group, prior, pyro.sample(weights_site(name), density)


@torch.inference_mode(False)
def joint(
    net: nn.Module,
    prior: Prior | Sequence[Rule],
    likelihood: str | Likelihood | Callable[..., object] | Curvature,
    data_size: int | None = None,
    *,
    tau: float = 1.0,
    density: Density = Density(),  # noqa: B008  (frozen)
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    start: Mapping[str, Tensor | np.ndarray] | None = None,
    raw: str = "exact",
) -> Joint:
    """The model of ``net``'s weights under ``prior`` and of targets under ``likelihood``.

    Frozen parameters are in the model too: the file must have them all.

    Args:
        net: a network with float parameters; it is copied, and left as it is. Where it or a part
            is wrapped (``torch.compile``, ``AveragedModel``, ``DataParallel``), the model is of the
            module inside.
        prior: a prior family for all weights, or rules (see ``Rule``).
        likelihood: a name in LIKELIHOODS, a spec, or a function of outputs that returns a Pyro
            distribution (see ``FromDistribution``); or a ``Curvature``: log p(data | weights) to
            second order, for which neither data nor the network is looked at.
        data_size: the number of training examples N; minibatches of B are scaled by N / B, and a
            curvature by N; by default as many as a curvature is of.
        tau: weight of the complexity cost.
        density: how the density is computed; its value is the same. With a ``prior_subsample``
            every evaluation draws so many of the weights, and log p(weights) is replaced by an
            estimate from them, whose expectation it is: for fits, not for NUTS.
        device, dtype: where, and in which of float32 and float64, the model computes; by default
            the network's, and of one in half precision, or partly so, float32.
        start: weights by tensor name from which a fit sets out, instead of the network's own; the
            network itself, and what no rule covers, stay as they are. Hyperparameters by the name
            of their site, such as "all.means", instead of those that the prior starts from.
        raw: how what no rule covers is rounded: "exact", "float16" or "int8", see ``rounded_raw``.

    Raises:
        TypeError: for what is no module, and without a data_size where targets are to be read.
        ValueError: for a network of which a file would be silently wrong (see ``check_network``) or
            that is a PyroModule; for tau <= 0, a network without float parameters, with weights
            that are not finite or partly float32 and partly float64, rules that match nothing,
            autocast of a float64 network, and a ``start`` that is not of the covered parameters;
            for a curvature of other tensors, or whose blocks do not fit them.
    """
    tau, net = check_tau(tau), plain(net)
    spec = as_likelihood(likelihood)
    data_size = _data_size(spec, data_size)
    instance("density", density, Density)
    check_device(device)
    check_dtype(dtype)
    check_network(net)
    check_no_pyro_module(net)
    for name, parameter in net.named_parameters():
        finite = parameter.detach().isfinite()
        if not finite.all():
            bad = int((~finite).sum())
            raise ValueError(
                f"parameter {name!r} has {bad} weights that are not finite; mend it first"
            )
    # Batch norm and dropout are as they will be when the decoded network is used.
    own = copied(net).to(device=device, dtype=dtype or _working_dtype(net)).eval()
    make_gradients_dense(own)
    _check_dtypes(own)
    groups, priors, uncovered = apply_rules(own, as_rules(prior))
    own.requires_grad_(False)  # after the rules, which may ask for it
    tensors = (*net.named_buffers(), *net.named_parameters())
    given = {name: tensor.dtype for name, tensor in tensors}
    computed = next(iter(groups.values())).dtype
    if density.autocast is not None and computed != torch.float32:
        raise ValueError(f"autocast is for a float32 network; this one is {computed}")
    if isinstance(spec, OfWeights):
        spec = spec.placed(groups, {name for name, _ in own.named_parameters()})
    model = Joint(
        net=own,
        groups=groups,
        priors=priors,
        uncovered=uncovered,
        given_dtypes=given,
        likelihood=spec,
        data_size=data_size,
        tau=tau,
        density=density,
        unrounded=_unrounded(net, own, groups),
        rounding=raw,
    )
    model.round_raw()
    if start is None:
        return model
    weights, sites = initial_values(groups, model.start(), start)
    return replace(model, initial_weights=weights, initial_sites=sites)


def outputs_of(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    inputs: Part,
    likelihood: Likelihood | None = None,
) -> Tensor:
    """A network's outputs with these tensors in the place of its own of their names.

    Several outputs are one where the ``likelihood`` has a method ``joined`` that makes them so.
    Raises ValueError as ``Joint.outputs`` does.
    """
    kind = type(net).__name__
    joined = getattr(likelihood, "joined", None)

    def as_one(outputs: Any) -> Any:
        outputs = named_output(outputs)
        return outputs if joined is None or isinstance(outputs, Tensor) else joined(outputs)

    outputs = computed(net, tensors, inputs, as_one)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"{kind} returns a {type(outputs).__name__} of shapes {shape_of(outputs)}; say which "
            "is meant, or make one tensor of several, by forward=lambda net, batch: ... and "
            "targets=lambda batch: ..."
        )
    if outputs.layout != torch.strided:
        layout = str(outputs.layout).removeprefix("torch.")
        raise ValueError(f"{kind} returns a {layout} tensor; make it dense with .to_dense()")
    if not outputs.is_floating_point():
        returned = str(outputs.dtype).removeprefix("torch.")
        raise ValueError(f"{kind} returns {returned}; its outputs must be real numbers")
    return outputs


def computed(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    inputs: Part,
    read: Callable[[Any], Any] = lambda outputs: outputs,
) -> Any:
    """What ``read`` makes of a network's outputs, by default all of them in their structure.

    With these tensors in the place of its own of their names. Raises ValueError, in one line, for
    inputs that the network cannot take, and for outputs that ``read`` cannot.
    """
    kind = type(net).__name__
    try:
        with NoSites(kind):
            return read(fed_with(net, tensors, inputs))
    except torch.OutOfMemoryError:
        raise
    except NETWORK_ERRORS as error:
        raise ValueError(_not_computed(kind, inputs, error)) from error


def check_tau(tau: float) -> float:
    """tau as a float. Raises ValueError for one that is not positive and finite."""
    tau = real("tau", tau)
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be a positive number, got {tau}; a small one is plain training")
    return tau


def _data_size(likelihood: Likelihood, data_size: int | None) -> int:
    """The number of examples, which a curvature knows by itself."""
    if data_size is None:
        if not isinstance(likelihood, OfWeights):
            raise TypeError("joint needs data_size, the number of training examples")
        data_size = likelihood.curvature.examples
    data_size = whole("data_size", data_size)
    if data_size < 1:
        raise ValueError(f"data_size must be at least 1 example, got {data_size}")
    return data_size


def _not_computed(net: str, inputs: Part, error: Exception) -> str:
    dtypes = dict.fromkeys(str(x.dtype).removeprefix("torch.") for x in tensors_in(inputs))
    shape = shape_of(inputs)
    kind = f"{', '.join(dtypes)} {'of shape' if shape.startswith('(') else 'in'} {shape}"
    said = repr(error) if isinstance(error, KeyError) else str(error)  # a KeyError is its key alone
    reason = (said.strip() or type(error).__name__).partition("\n")[0]
    # A TypeError is of the arguments; of their dtypes torch raises a RuntimeError.
    fits = isinstance(error, TypeError) or any(x.is_floating_point() for x in tensors_in(inputs))
    hint = "" if fits else "; where it needs floats, give inputs.float()"
    return f"{net} cannot compute outputs for inputs, {kind}: {reason}{hint}"


def _unrounded(given: nn.Module, own: nn.Module, groups: Mapping[str, Group]) -> dict[str, Tensor]:
    """Copies of the given tensors that no group covers and the model's dtype does not hold.

    A float64 network that is fitted in float32 has its buffers in the file as they were.
    """
    covered = {name for group in groups.values() for name in group.shapes}
    mine = {**dict(own.named_parameters()), **dict(own.named_buffers())}
    tensors = {**dict(given.named_parameters()), **dict(given.named_buffers())}
    return {
        name: tensor.detach().clone()
        for name, tensor in tensors.items()
        if name not in covered
        and tensor.is_floating_point()
        and not torch.equal(mine[name].to(tensor), tensor)
    }


def _storable(tensor: Tensor) -> Tensor:
    """The same values in a dtype that numpy has: float32 for bfloat16 and the float8s, exactly."""
    short = tensor.is_floating_point() and tensor.dtype not in NUMPY_FLOATS
    return tensor.float() if short else tensor


def _working_dtype(net: nn.Module) -> torch.dtype | None:
    """What a network in half precision, or partly so, is fitted in; None: its own dtype.

    Half precision cannot hold a mixture's precisions.
    """
    dtypes = {p.dtype for p in net.parameters() if p.is_floating_point()}
    if dtypes <= {torch.float32, torch.float64}:
        return None
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _check_dtypes(net: nn.Module) -> None:
    """One vector has one dtype."""
    dtypes = {p.dtype for p in net.parameters() if p.is_floating_point()}
    if dtypes - {torch.float32} and dtypes - {torch.float64}:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(
            f"the network's weights are {names}; compress it in one of float32 and float64, "
            "such as dtype=torch.float32"
        )
