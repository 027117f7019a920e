from torch import nn


def tiny(hidden=8):
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def no_module():
    return "a network"
