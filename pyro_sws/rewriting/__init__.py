"""A shorter network of the same outputs: which tensors go with which units. torch.fx."""
