"""What people would use instead, in the place of a translator or of a fusion."""

import importlib
import sys

import torch
from torch import nn

from examples.benchmarks.speed.floor import Encoder, Layer


class ExplicitLayer(Layer):
    """Scores, softmax and dropout written out, as in MulT and most published code."""

    def attend(self, q, k, v, mask):
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.float().softmax(-1).type_as(scores)
        return nn.functional.dropout(weights, self.attention_dropout, self.training) @ v


class Explicit(Encoder):
    """Explicit scores; the rates of dropout are MulT's for MOSI unless said otherwise."""

    def __init__(self, *sizes, dropout=0.2, attention_dropout=0.1, **options):
        def layer(dim, heads):
            return ExplicitLayer(dim, heads, dropout, attention_dropout)

        super().__init__(*sizes, layer=layer, **options)


class TorchEncoder(nn.Module):
    """``nn.TransformerEncoder`` between two ``nn.Linear``; pre-norm, as ours."""

    def __init__(self, source_dim, target_dim, dim, heads, layers=2, queries=0, dropout=0.1):
        super().__init__()
        options = {"activation": "gelu", "batch_first": True, "norm_first": True}
        options |= {"dropout": dropout, "dim_feedforward": 4 * dim}
        self.input, self.output = nn.Linear(source_dim, dim), nn.Linear(dim, target_dim)
        layer = nn.TransformerEncoderLayer(dim, heads, **options)
        norm = nn.LayerNorm(dim)
        self.encoder = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)
        self.queries = nn.Embedding(queries, dim) if queries else None
        if queries:
            layer = nn.TransformerDecoderLayer(dim, heads, **options)
            self.decoder = nn.TransformerDecoder(layer, layers, nn.LayerNorm(dim))

    def forward(self, source, valid=None):
        padding = None if valid is None else ~valid
        x = self.encoder(self.input(source), src_key_padding_mask=padding)
        if self.queries is not None:
            y = self.queries.weight.expand(len(x), -1, -1)
            x = self.decoder(y, x, memory_key_padding_mask=padding)
        return self.output(x)


class XTransformer(nn.Module):
    """The encoder of the package x-transformers, with rotary positions."""

    def __init__(self, source_dim, target_dim, dim, heads, layers=2, dropout=0.1):
        super().__init__()
        x_transformers = importlib.import_module("x_transformers")
        self.model = x_transformers.ContinuousTransformerWrapper(
            dim_in=source_dim,
            dim_out=target_dim,
            max_seq_len=0,
            use_abs_pos_emb=False,
            attn_layers=x_transformers.Encoder(
                dim=dim,
                depth=layers,
                heads=heads,
                attn_dim_head=dim // heads,
                attn_flash=True,
                rotary_pos_emb=True,
                layer_dropout=0.0,
                attn_dropout=0.0,
                ff_dropout=dropout,
            ),
        )

    def forward(self, source, valid=None):
        return self.model(source, mask=valid)


class MulT(nn.Module):
    """The encoder of a checkout of MulT, which knows no padding; its rates for MOSI."""

    def __init__(self, folder, source_dim, target_dim, dim, heads, layers=2):
        super().__init__()
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        encoder = importlib.import_module("modules.transformer").TransformerEncoder
        self.input, self.output = nn.Linear(source_dim, dim), nn.Linear(dim, target_dim)
        rates = {"attn_dropout": 0.1, "relu_dropout": 0.1, "res_dropout": 0.2}
        self.encoder = encoder(dim, heads, layers, embed_dropout=0.2, **rates)

    def forward(self, source, valid=None):  # noqa: ARG002, nothing masks its padding
        x = self.encoder(self.input(source).transpose(0, 1))
        return self.output(x.transpose(0, 1))


class AllPairs(nn.Module):
    """For each modality a stack of layers for each other one that it reads, then one Linear back.

    As MulT has it, but on torch's own attention and with the floor's layers; pooled like ours.
    """

    def __init__(self, modality_dims, dim, heads, layers=2, dropout=0.0, places=0):
        super().__init__()
        self.names = sorted(modality_dims)
        self.places = nn.ParameterDict(
            {name: torch.zeros(places, dim) for name in self.names if places}
        )
        self.inputs = nn.ModuleDict({n: nn.Linear(modality_dims[n], dim) for n in self.names})
        self.streams = nn.ModuleDict(
            {
                f"{reader}<{read}": nn.ModuleList(
                    Layer(dim, heads, dropout) for _ in range(layers)
                )
                for reader in self.names
                for read in self.names
                if read != reader
            }
        )
        width = (len(self.names) - 1) * dim
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.names})
        self.back = nn.ModuleDict({name: nn.Linear(width, dim) for name in self.names})
        self.output_dim = len(self.names) * dim

    def forward(self, modalities, valid=None):
        x = {name: self.inputs[name](modalities[name]) for name in self.names}
        for name, vectors in self.places.items():
            x[name] = x[name] + vectors[: x[name].shape[1]]
        slots = []
        for reader in self.names:
            streams = []
            for read in self.names:
                if read != reader:
                    mask = None if valid is None else valid[read][:, None, None, :]
                    h = x[reader]
                    for layer in self.streams[f"{reader}<{read}"]:
                        h = layer(h, mask, x[read])
                    streams.append(h)
            h = self.back[reader](self.norms[reader](torch.cat(streams, -1)))
            if valid is None:
                slots.append(h.mean(1))
            else:
                there = valid[reader].unsqueeze(-1)
                slots.append((h * there).sum(1) / there.sum(1).clamp(min=1))
        return torch.cat(slots, -1)
