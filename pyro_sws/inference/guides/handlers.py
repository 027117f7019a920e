"""What Pyro's handlers around a joint mean for its guide: whose it is, and how sites are scaled."""

from collections.abc import Callable, Mapping
from typing import cast

from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.reparam_messenger import ReparamHandler
from torch import Tensor

from pyro_sws.inference.at_point import Site
from pyro_sws.inference.joint import Joint


def joint_inside(model: Callable) -> Joint:
    """The joint of a model that handlers may be wrapped around, as pyro.condition wraps them.

    Raises TypeError for a model that is none.
    """
    inside = poutine.unwrap(model)
    if isinstance(inside, ReparamHandler):  # poutine.reparam has its own way of wrapping
        return joint_inside(inside.fn)
    if isinstance(inside, Joint):
        return inside
    kind = getattr(inside, "__name__", None) or type(inside).__name__
    raise TypeError(
        f"a guide is for what joint(...) returns, or that inside Pyro's handlers, such as "
        f"pyro.condition(model, data); got {kind}. For another model take one of "
        "pyro.infer.autoguide"
    )


def without_targets(model: Callable) -> Callable:
    """The model as a guide is made of it, also by a run that has no targets yet.

    As in Predictive(model, guide=guide)(inputs), where real targets would be taken for a latent.
    """
    return poutine.block(model, hide=["targets"])


class ScaledAs(Messenger):
    """Scales a guide's sites as the model's are: by tau, and by what handlers around it say.

    An ELBO is then right whether it takes log p and log q apart or their KL, which it scales by
    the guide's factor alone. What a plate's subsampling scales is left to the guide's own plate.
    """

    def __init__(self, prototype: Trace):
        super().__init__()
        self.factors: Mapping[str, float | Tensor] = {
            name: _without_plates(cast(Site, site))
            for name, site in prototype.iter_stochastic_nodes()
        }

    def _pyro_sample(self, msg: Site) -> None:
        msg["scale"] = msg["scale"] * self.factors.get(msg["name"], 1.0)


def _without_plates(site: Site) -> float | Tensor:
    scale = site["scale"]
    for frame in site["cond_indep_stack"]:
        if frame.full_size is not None and frame.full_size != frame.size:
            scale = scale * (frame.size / frame.full_size)
    return scale
