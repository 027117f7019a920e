"""A small transformer that continues a text, character by character. Torch only."""

import torch
from torch import Tensor, nn


class TextTransformer(nn.Module):
    """The next character after each, by attention; inputs (B, window) int64.

    Outputs (B, window, characters).
    """

    def __init__(
        self,
        characters: int = 65,
        window: int = 64,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
    ):
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position = nn.Parameter(0.02 * torch.randn(window, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, characters)
        mask = torch.full((window, window), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embedding(inputs) + self.position
        return self.linear(self.norm(self.encoder(hidden, mask=self.mask)))
