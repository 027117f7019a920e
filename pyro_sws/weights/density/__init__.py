"""log p(weights) under a mixture: the one hot loop, in its portable and compiled forms."""
