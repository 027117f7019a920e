"""From a trained network to a small file: fit, merge, refine, pack. Drivers."""
