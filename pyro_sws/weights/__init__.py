"""Maths on tensors: mixture, fast density, merging, quantisation. Torch only, never Pyro."""
