"""Small networks of the kinds that are in use, and inputs for them."""

import torch
from torch import nn
from torch.nn import functional as F


class With(nn.Module):
    """Named parts, and a forward that uses them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.compute(self, *args, **kwargs)


def residual_images():
    def forward(m, x):
        x = m.stem(x)
        for first, norm1, second, norm2 in m.blocks:
            y = norm2(second(F.relu(norm1(first(x)))))
            x = F.relu(x + y)
        return m.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def block():
        first, second = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        return nn.ModuleList([first, nn.BatchNorm2d(6), second, nn.BatchNorm2d(6)])

    stem = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    blocks = nn.ModuleList([block(), block()])
    return With(forward, stem=stem, blocks=blocks, head=nn.Linear(6, 4))


def separable_images():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Hardswish()),
        *(nn.Conv2d(8, 12, 1), nn.GroupNorm(3, 12), nn.SiLU(), nn.Conv2d(12, 6, 1, groups=3)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(24, 5)),
    )


def grouped_sounds():
    return nn.Sequential(
        *(nn.Conv1d(2, 8, 5, padding=2), nn.BatchNorm1d(8), nn.PReLU(8), nn.MaxPool1d(2)),
        *(nn.Conv1d(8, 12, 3, groups=4), nn.GELU(), nn.Conv1d(12, 6, 1, groups=2), nn.Tanh()),
        *(nn.AvgPool1d(2), nn.Flatten(), nn.Linear(24, 3)),
    )


def volumes():
    return nn.Sequential(
        *(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.ConvTranspose3d(4, 6, 2, stride=2)),
        *(nn.MaxPool3d(2), nn.InstanceNorm3d(6, affine=True), nn.Conv3d(6, 6, 1, groups=6)),
        *(nn.Flatten(), nn.Linear(48, 3)),
    )


class Attention(nn.Module):
    """Written by hand: separate projections, a reshape and a transpose for the heads."""

    def __init__(self, width=8, heads=2, inner=12):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        batch, steps, _ = x.shape
        q, k, v = (
            part(x).view(batch, steps, self.heads, -1).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, steps, -1))


def written_transformer():
    def forward(m, x):
        x = m.embed(x) + m.places(torch.arange(x.shape[1]))
        for norm1, attend, norm2, up, down in m.blocks:
            x = x + attend(norm1(x))
            value, gate = up(norm2(x)).chunk(2, -1)
            x = x + down(value * F.silu(gate))
        return m.head(m.norm(x).mean(1))

    def block():
        parts = nn.LayerNorm(8), Attention(), nn.LayerNorm(8), nn.Linear(8, 20), nn.Linear(10, 8)
        return nn.ModuleList(parts)

    return With(
        forward,
        **{"embed": nn.Embedding(11, 8), "places": nn.Embedding(5, 8), "norm": nn.LayerNorm(8)},
        **{"blocks": nn.ModuleList([block(), block()]), "head": nn.Linear(8, 3)},
    )


def torch_transformer():
    def forward(m, x):
        return m.head(m.body(m.embed(x) + m.places)[:, -1])

    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    parts = {"embed": nn.Embedding(11, 8), "body": body, "head": nn.Linear(8, 3)}
    return With(forward, places=nn.Parameter(torch.zeros(5, 8)), **parts)


def cross_attention():
    def forward(m, x, memory):
        y, weights = m.attend(m.q(x), m.kv(memory), m.kv(memory))
        return m.head(F.gelu(y)), weights

    attend = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    return With(forward, q=nn.Linear(4, 8), kv=nn.Linear(3, 6), attend=attend, head=nn.Linear(8, 2))


def recurrent(kind, **settings):
    def forward(m, x):
        return m.head(m.body(m.embed(x))[0][:, -1])

    body = kind(6, 5, batch_first=True, **settings)
    width = 5 * (2 if settings.get("bidirectional") else 1)
    return With(forward, embed=nn.Embedding(11, 6), body=body, head=nn.Linear(width, 3))


IMAGE, WORDS = torch.randn(2, 3, 12, 12), torch.randint(0, 11, (3, 5))
REAL = {  # name -> a network, an input, the units of its links
    "residual images": (residual_images, IMAGE, [6, 6, 6]),
    "separable images": (separable_images, IMAGE, [8, 3, 4, 2]),
    "grouped sounds": (grouped_sounds, torch.randn(2, 2, 20), [2, 2, 2, 3, 3]),
    "volumes": (volumes, torch.randn(2, 1, 4, 4, 4), [4, 6]),
    "a transformer by hand": (written_transformer, WORDS, [8, 2, 6, 6, 10, 2, 6, 6, 10]),
    "torch's transformer": (torch_transformer, WORDS, [8, 2, 4, 12, 2, 4, 12]),
    "cross attention": (
        *(cross_attention, (torch.randn(2, 3, 4), torch.randn(2, 5, 3))),
        [8, 6, 2, 4, 4, 8],
    ),
    "LSTM": (lambda: recurrent(nn.LSTM, num_layers=2), WORDS, [6, 5, 5]),
    "LSTM both ways": (lambda: recurrent(nn.LSTM, bidirectional=True), WORDS, [6, 5, 5]),
    "GRU": (lambda: recurrent(nn.GRU, num_layers=2), WORDS, [6, 5, 5]),
    "RNN": (lambda: recurrent(nn.RNN, bias=False), WORDS, [6, 5]),
}
