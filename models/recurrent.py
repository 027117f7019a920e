"""Recurrent networks: a GRU that names a sequence, one that continues it. Torch only."""

from torch import Tensor, nn


class SpokenGRU(nn.Module):
    """A GRU over the frames, and a layer on the mean of its states; inputs (B, bands, frames)."""

    def __init__(self, bands: int = 40, classes: int = 10, units: int = 64):
        super().__init__()
        self.gru = nn.GRU(bands, units, batch_first=True)
        self.linear = nn.Linear(units, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.gru(inputs.transpose(1, 2))
        return self.linear(states.mean(1))


class TextGRU(nn.Module):
    """The next character after each; inputs (B, T) int64, outputs (B, T, characters)."""

    def __init__(self, characters: int = 65, units: int = 128, width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.gru = nn.GRU(width, units, batch_first=True)
        self.linear = nn.Linear(units, characters)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(inputs))
        return self.linear(states)
