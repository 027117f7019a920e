"""Learning rates at which nothing moves."""

from pyro_sws.inference.fitting import Rates

STILL = Rates(weights=0.0, means=0.0, precisions=0.0, proportions=0.0, other=0.0)
