"""Networks that do unusual things to their units: some that can be followed, some that cannot."""

from torch import nn
from torch.nn import functional as F

from models.wide_resnet import wide_resnet


class Of(nn.Module):
    """Two layers, and a forward of one's own."""

    def __init__(self, forward, one=None, two=None):
        super().__init__()
        self.one, self.two = one or nn.Linear(4, 4), two or nn.Linear(4, 4)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def convolution(groups=1):
    return nn.Conv2d(4, 4, 1, groups=groups)


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


def hooked():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[1].register_forward_hook(lambda module, inputs, output: output.flip(-1))
    return net


def overridden():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[1].forward = lambda x: x.cumsum(-1)
    return net


class Flipped(nn.Linear):
    def forward(self, x):
        return super().forward(x).flip(-1)


def conv_net(forward, two=None, **settings):
    return Of(forward, convolution(**settings), two or nn.Linear(16, 4))


# Units that may not be touched, by what hinders it.
NOT_UNDERSTOOD = {
    "residual": Of(lambda m, x: m.two(m.one(x).relu()) + x + m.one(x)),
    "a branch": Of(lambda m, x: m.two(h := m.one(x).relu()) + h),
    "a hidden output": Of(lambda m, x: (h := m.one(x), m.two(h))),
    "a layer called twice": Of(lambda m, x: m.two(m.two(m.one(x)))),
    "control flow": Of(lambda m, x: m.two(m.one(x)) if x.sum() > 0 else m.one(x)),
    "tied weights": tied(),
    "a hook": hooked(),
    "a forward of its own": overridden(),
    "a layer of another class": Of(lambda m, x: m.two(m.one(x)), Flipped(4, 4)),
    "dropout in evaluation": Of(lambda m, x: m.two(F.dropout(m.one(x)))),
    "a sum of two tensors": Of(lambda m, x: m.two(m.one(x) + x)),
    "a flip": Of(lambda m, x: m.two(m.one(x).flip(-1))),
    "columns of an image": conv_net(lambda m, x: m.two(m.one(x)), nn.Linear(4, 4)),
    "a flattened batch": conv_net(lambda m, x: m.two(m.one(x).flatten(0))),
    "a flattened image": conv_net(lambda m, x: m.two(m.one(x).flatten(2))),
    "a reshape of unknown sizes": conv_net(lambda m, x: m.two(m.one(x).view(-1, 16))),
    "a batch of something else": Of(
        lambda m, x: m.two(m.one(x.transpose(0, 1)).view(x.size(0), -1)), convolution()
    ),
    "steps of a sequence laid side by side": Of(
        lambda m, x: m.two(m.one(x).flatten(1)), None, nn.Linear(8, 4)
    ),
    "one layer": nn.Linear(4, 4),
}
# Units that may move, by what is on their way.
UNDERSTOOD = {
    "a weight that is used again": Of(lambda m, x: m.two(m.one(x)) @ m.one.weight),
    "arithmetic on weights": Of(
        lambda m, x: m.two(m.one(x)) * sum(w.norm() for w in [*m.one.parameters()])
    ),
    "a function across units": Of(lambda m, x: m.two(m.one(x).softmax(-1))),
    "a normalization": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)),
    "an activation with weights": nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.Linear(4, 4)),
    "a number minus a tensor": Of(lambda m, x: m.two(1 - m.one(x))),
    "groups": conv_net(lambda m, x: m.two(m.one(x).flatten(1)), groups=2),
    "groups after": Of(lambda m, x: m.two(m.one(x)), convolution(), convolution(groups=2)),
    "a transposed image": conv_net(lambda m, x: m.two(m.one(x).transpose(1, 2).flatten(1))),
    "a mean over channels": Of(lambda m, x: m.two(m.one(x).mean((1, 2))), convolution()),
    "indices of a pool": conv_net(
        lambda m, x: m.two(F.max_pool2d(m.one(x), 1, return_indices=True)[0].flatten(1))
    ),
    "a wide residual network": wide_resnet(10, 1),
}
