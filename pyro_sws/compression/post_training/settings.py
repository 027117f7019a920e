"""How post-training compression goes. Values."""

import math
from dataclasses import dataclass

from pyro_sws.inference.plain_numbers import count, flag, real


@dataclass(frozen=True)
class PostTraining:
    """Compression of a trained network from inputs alone: no labels, no training.

    The likelihood is Gaussian: the network's own curvature at its trained weights, from the second
    moments of what each tensor multiplies (see ``Curvature``). Each tensor's values are multiples
    of a step of its own, or those of the prior's codebook (see ``Values``), and which of them a
    weight takes minimises the expected nats that the predictions change by, plus ``rate`` times the
    file's bits: error feedback (Frantar et al. 2022) with the coder's rate in the choice (Conzel et
    al. 2025, alg. 1), then coordinate descent.
    A sweep over rates gives the frontier. Raises ValueError for a number that cannot be.
    """

    __pydantic_config__ = {"extra": "forbid"}
    rate: float | None = None  # nats of predictions that a bit is worth; None: a sweep finds it
    files: int = 16  # the most that a sweep makes
    examples: int = 4096  # inputs that moments are taken of, at most
    damping: float = 0.01  # of the moments' mean diagonal, added to it
    descents: int = 3  # coordinate descents after the first choice
    correct_bias: bool = True  # biases take up what errors of weights add to the mean output

    def __post_init__(self) -> None:
        for name in ("files", "examples"):
            object.__setattr__(self, name, count(f"post_training.{name}", getattr(self, name)))
        descents = self.descents
        if isinstance(descents, bool) or not isinstance(descents, int) or descents < 0:
            raise ValueError(f"post_training.descents must be a whole number >= 0, got {descents}")
        object.__setattr__(self, "damping", real("post_training.damping", self.damping))
        if not 0 < self.damping < math.inf:
            raise ValueError(f"post_training.damping must be positive, got {self.damping}")
        flag("post_training.correct_bias", self.correct_bias)
        if self.rate is not None:
            object.__setattr__(self, "rate", real("post_training.rate", self.rate))
            if not 0 < self.rate < math.inf:
                raise ValueError(f"post_training.rate must be positive, got {self.rate}")
