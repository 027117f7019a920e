"""Whether draws of a mixture's components kept their labels: how far to trust their order."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.weights.component_draws import ComponentDraws, ordered, relabelled


@dataclass(frozen=True)
class LabelReport:
    """Whether the components that can move, K of them in ascending order, kept their identity."""

    swapped: Tensor  # (chains,) share of a chain's draws that have them in another order than most
    crowded: Tensor  # (K - 1,) share of draws with neighbours nearer than the wider one's deviation
    # (chains, K) each ordered mean's average in a chain less that in all, in its deviations
    # within chains
    apart: Tensor


def label_report(components: ComponentDraws) -> LabelReport:
    """How much the order of the components, as they were sampled, can be relied upon.

    Chains that found different modes are apart; ones that swap labels within a mode are crowded.
    """
    free = ~components.fixed
    sorted_draws = ordered(components)
    means, deviations = sorted_draws.means[..., free], sorted_draws.deviations[..., free]
    wider = torch.maximum(deviations[..., 1:], deviations[..., :-1])
    by_chain = means.mean(1)
    within = (means - by_chain.unsqueeze(1)).square().mean((0, 1)).sqrt()
    tiny = torch.finfo(within.dtype).tiny
    return LabelReport(
        swapped=relabelled(components).double().mean(1),
        crowded=(means.diff(dim=-1) < wider).double().mean((0, 1)),
        apart=(by_chain - by_chain.mean(0)) / within.clamp_min(tiny),
    )
