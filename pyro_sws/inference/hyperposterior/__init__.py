"""The mixture given the weights: its density, Laplace's approximation, NUTS."""
