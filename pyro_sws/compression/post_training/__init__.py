"""Post-training compression: no pass through the network's training, its curvature instead."""
