"""The floor: the least that a pre-norm transformer encoder computes, on torch's own attention."""

import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    """LayerNorm, fused projection, attention, output, residual; LayerNorm, MLP, residual."""

    def __init__(self, dim, heads, dropout=0.0, attention_dropout=0.0):
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.norm, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x, mask=None, context=None):
        normed, dim = self.norm(x), x.shape[-1]
        if context is None:
            q, k, v = self._heads(self.qkv(normed), 3)
        else:
            (q,) = self._heads(F.linear(normed, self.qkv.weight[:dim], self.qkv.bias[:dim]), 1)
            k, v = self._heads(F.linear(context, self.qkv.weight[dim:], self.qkv.bias[dim:]), 2)
        x = x + self.drop(self.out(self.attend(q, k, v, mask).transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(self.drop(F.gelu(self.up(self.norm2(x))))))

    def _heads(self, x, parts):
        return x.view(*x.shape[:2], parts, self.heads, -1).transpose(1, 3).unbind(2)

    def attend(self, q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Encoder(nn.Module):
    """Input Linear, layers, LayerNorm, output Linear; ``queries`` read it in layers more."""

    def __init__(self, source_dim, target_dim, dim, heads, layers=2, queries=0, layer=Layer):
        super().__init__()
        self.input, self.output = nn.Linear(source_dim, dim), nn.Linear(dim, target_dim)
        self.layers = nn.ModuleList(layer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.queries = None
        if queries:
            self.queries, self.norm2 = nn.Embedding(queries, dim), nn.LayerNorm(dim)
            self.readers = nn.ModuleList(layer(dim, heads) for _ in range(layers))

    def forward(self, source, valid=None):
        x, mask = self.input(source), None if valid is None else valid[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        if self.queries is None:
            return self.output(x)
        y = self.queries.weight.expand(len(x), -1, -1)
        for layer in self.readers:
            y = layer(y, mask, x)
        return self.output(self.norm2(y))
