"""A prior before any fit, and against the weights that were fitted."""
