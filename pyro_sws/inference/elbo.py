"""-ELBO of a batch as a torch module: what a fit differentiates, in one process or several."""

import warnings
from collections.abc import Mapping

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import transform_to
from torch.distributions.constraints import Constraint

from pyro_sws.inference.annealing import Factors, annealed
from pyro_sws.inference.at_point import AtPoint, scored
from pyro_sws.inference.guides import DeltaGuide, Guide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import weights_site


class Elbo(nn.Module):
    """(inputs, targets) -> (-ELBO, error cost), in nats; differentiable in the guide's parameters.

    (None, None) of a model that reads no data.

    Pyro's Trace_ELBO; for a delta guide without its overhead: log q is 0 there, and the ELBO is the
    joint's log-density at the point, found in one run of the model without a trace of either.
    """

    def __init__(self, model: Joint, guide: Guide, store: dict):
        """``store`` is a state of Pyro's parameter store in which the guide has run once.

        Its tensors that are no nn.Parameter become one.
        """
        super().__init__()
        self.model, self.store = model, store
        self._guide = (guide,)  # in a tuple: its parameters are registered here, by site
        self._sites = _own_parameters(guide, store)
        self._values = nn.ParameterList(self._sites.values())
        self._constraints = _constraints(guide, store)
        self._moving = {*map(weights_site, model.groups), *model.likelihood.start()}

    @property
    def sites(self) -> Mapping[str, nn.Parameter]:
        """Site name -> unconstrained parameter."""
        return self._sites

    @torch.no_grad()
    def values(self) -> dict[str, Tensor]:
        """The parameters by name, and what they say of each site, in constrained space."""
        with pyro_step(self.store):
            return {**self.sites, **self._guide[0].median()}

    @property
    def can_freeze(self) -> bool:
        """Whether the hyperparameters can be frozen: under a delta guide."""
        return self._constraints is not None

    def freezes(self, site: str) -> bool:
        """Whether ``freeze`` makes a site constant: neither weights nor a learned noise."""
        return site in (self._constraints or ()) and site not in self._moving

    def forward(
        self,
        inputs: Tensor | None,
        targets: Tensor | None,
        freeze: bool = False,
        factors: Factors = Factors(),  # noqa: B008  (frozen)
    ) -> tuple[Tensor, Tensor]:
        """``freeze``: the hyperparameters are constants in this step, and get no gradient.

        ``factors``: by which the objective is annealed in this step.
        """
        model = annealed(self.model, factors)
        with pyro_step(self.store), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered NaN")  # fit raises, with the step
            if self._constraints is not None:
                return self._at_point(model, self._constraints, inputs, targets, freeze)
            # A guide with spread carries the model's own tau; the factor on it comes from outside.
            guide = poutine.scale(self._guide[0], scale=factors.tau)
            with _ErrorCost(model.error_site) as error:
                loss = Trace_ELBO().differentiable_loss(model, guide, inputs, targets)
            return loss, error.nats

    def _at_point(
        self,
        model: Joint,
        constraints: Mapping[str, Constraint],
        inputs: Tensor | None,
        targets: Tensor | None,
        freeze: bool,
    ) -> tuple[Tensor, Tensor]:
        point = {}
        for site, constraint in constraints.items():
            parameter = self._sites[site]
            frozen = freeze and self.freezes(site)
            point[site] = transform_to(constraint)(parameter.detach() if frozen else parameter)
        with AtPoint(point) as run:
            model(inputs, targets)
        error = -run.log_probs[model.error_site].detach()
        return -torch.stack(list(run.log_probs.values())).sum(), error


class _ErrorCost(Messenger):
    """Listens for -log p(targets | outputs), scaled to the whole data as in the ELBO."""

    nats = torch.zeros(())

    def __init__(self, site: str):
        super().__init__()
        self.site = site

    def _pyro_post_sample(self, msg):
        if msg["name"] == self.site and msg["is_observed"]:
            self.nats = -scored(msg).detach()


def _own_parameters(guide: Guide, store: dict) -> dict[str, nn.Parameter]:
    """Site name -> unconstrained parameter: from Pyro's store or, where bypassed, the guide."""
    for name, value in store["params"].items():
        if not isinstance(value, nn.Parameter):  # pyro.param in a function: a module needs one
            store["params"][name] = nn.Parameter(value.detach())
    named = {name.split(".", 1)[-1]: value for name, value in store["params"].items()}
    if not named and isinstance(guide, nn.Module):
        named = {n.removesuffix("_unconstrained"): p for n, p in guide.named_parameters()}
    if not named:
        raise ValueError("the guide has no parameters to fit; give one such as delta_guide(model)")
    return named


def _constraints(guide: Guide, store: dict) -> Mapping[str, Constraint] | None:
    """Site name -> constraint, where the guide is a point mass at its parameters; else None."""
    if not isinstance(guide, AutoDelta) or type(guide) not in (AutoDelta, DeltaGuide):
        return None
    sites = dict(guide.prototype_trace.iter_stochastic_nodes())
    if any(frame.vectorized for site in sites.values() for frame in site["cond_indep_stack"]):
        return None  # in a plate AutoDelta may subsample its point
    constraints = {name.split(".", 1)[-1]: c for name, c in store["constraints"].items()}
    return (
        {site: constraints[site] for site in sites} if sites.keys() <= constraints.keys() else None
    )
