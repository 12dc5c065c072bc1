"""A small GPT in plain torch; used by the task `charlm` and by the examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class GptSettings:
    """Width and depth; the defaults make 1.03 M weights. ``width`` is a multiple of ``heads``."""

    vocabulary: int = 256
    context: int = 64
    width: int = 128
    heads: int = 4
    layers: int = 5


class Block(nn.Module):
    """Attention to what came before, then a perceptron, each on normalised input and added to it (GPT-2's order)."""

    def __init__(self, settings: GptSettings) -> None:
        super().__init__()
        width, self.heads = settings.width, settings.heads
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """float32[batch, tokens, width] to the same."""
        batch, tokens, width = hidden.shape
        parts = self.attention(self.before_attention(hidden)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.projection(mixed.transpose(1, 2).reshape(batch, tokens, width))
        result: torch.Tensor = hidden + self.mlp(self.before_mlp(hidden))
        return result


class Gpt(nn.Module):
    """Tokens in, scores of the next token out (Radford et al. 2019); the embedding's weights are also the output's."""

    def __init__(self, settings: GptSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or GptSettings()
        width = self.settings.width
        self.tokens = nn.Embedding(self.settings.vocabulary, width)
        self.positions = nn.Embedding(self.settings.context, width)
        self.blocks = nn.Sequential(*(Block(self.settings) for _ in range(self.settings.layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.settings.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64[batch, tokens] to scores float32[batch, tokens, vocabulary]; at most ``context`` tokens."""
        hidden = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        scores: torch.Tensor = self.head(self.norm(self.blocks(hidden)))
        return scores
