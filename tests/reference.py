"""An independent reading of the layers: NumPy, float64, one sample, no masks.

Steps that may not be read are left out of the arrays, so that no mask is needed. Slow and plain
on purpose; the names of parameters are those of the modules' ``state_dict``.
"""

import math

import numpy as np


def numbers(module):
    """The parameters as float64 arrays by name."""
    return {name: x.double().numpy() for name, x in module.state_dict().items()}


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x):
    return x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))


def rotary(x, positions):
    """Turns the pairs (2i, 2i + 1) of ``x`` ``(L, D)`` as complex numbers."""
    half = x.shape[-1] // 2
    turned = x.copy()
    for i in range(half):
        turn = np.exp(1j * np.asarray(positions) * 10_000.0 ** (-i / half))
        pair = (x[:, 2 * i] + 1j * x[:, 2 * i + 1]) * turn
        turned[:, 2 * i], turned[:, 2 * i + 1] = pair.real, pair.imag
    return turned


def clock(length, first=None, last=None):
    """Positions on the clock from 0 to 100 between the first and the last step that exists."""
    first, last = first or 0, length - 1 if last is None else last
    return np.array([(t - first + 0.5) * 100.0 / (last - first + 1) for t in range(length)])


def places(p, name, length, first=0):
    """The vector for the place of each step, counted from the first one that exists."""
    if f"{name}.weight" not in p:
        return 0.0
    last = len(p[f"{name}.weight"]) - 1  # all later steps share it
    return p[f"{name}.weight"][[min(max(t - first, 0), last) for t in range(length)]]


def project(p, name, x, positions, heads):
    """Queries, keys and values: a list of heads, each of arrays ``(L, head_dim)``."""
    fused = linear(p, f"{name}.input", x)
    width = x.shape[-1] // heads
    parts = []
    for part in np.split(fused, 3, -1):
        parts.append([part[:, h * width : (h + 1) * width] for h in range(heads)])
    query, key, value = parts
    return [rotary(q, positions) for q in query], [rotary(k, positions) for k in key], value


def read(p, name, query, key, value):
    """What the queries read, and the weights ``(heads, L, L_read)``, by explicit softmax."""
    heads, weights = [], []
    for q, k, v in zip(query, key, value, strict=True):
        scores = q @ k.T / math.sqrt(q.shape[-1])
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(shares @ v)
        weights.append(shares)
    return linear(p, f"{name}.output", np.concatenate(heads, -1)), np.stack(weights)


def attention(
    p, name, x, positions, heads, *, context=None, context_positions=None, readable=None
):
    """Attention of ``x`` to itself or to a context, of whose steps ``readable`` ones are read."""
    query, key, value = project(p, name, x, positions, heads)
    if context is not None:
        _, key, value = project(p, name, context, context_positions, heads)
    if readable is not None:
        key, value = [k[readable] for k in key], [v[readable] for v in value]
    return read(p, name, query, key, value)[0]


def feedforward(p, name, x):
    hidden = gelu(
        linear(p, f"{name}.feedforward_in", layer_norm(p, f"{name}.feedforward_norm", x))
    )
    return x + linear(p, f"{name}.feedforward_out", hidden)


def block(p, name, x, positions, heads, **context):
    normed = layer_norm(p, f"{name}.attention_norm", x)
    x = x + attention(p, f"{name}.attention", normed, positions, heads, **context)
    return feedforward(p, name, x)


def transformer(p, name, x, positions, heads, layers, **context):
    for i in range(layers):
        x = block(p, f"{name}.blocks.{i}", x, positions, heads, **context)
    return layer_norm(p, f"{name}.norm", x)


def fusion(module, sample):
    """Of a sample ``{name: (L, D)}``, every step valid: sequences and shares of attention."""
    p, heads, layers = numbers(module), module.num_heads, module.num_layers
    key = {name: f"towers.@{name}" for name in sample}
    x = {
        name: linear(p, f"{key[name]}.input", steps) + places(p, f"{key[name]}.places", len(steps))
        for name, steps in sample.items()
    }
    shares = {name: dict.fromkeys(sample.keys() - {name}, 0.0) for name in sample}
    for i in range(layers):
        projected, after = {}, {}
        for name in sample:
            normed = layer_norm(p, f"{key[name]}.blocks.{i}.attention_norm", x[name])
            where = np.arange(len(normed)) if module.aligned else clock(len(normed))
            part = project(p, f"{key[name]}.blocks.{i}.attention", normed, where, heads)
            projected[name] = part
        for name in sample:
            others, after[name] = [other for other in sample if other != name], x[name]
            if others:
                k, v = (
                    [np.concatenate([projected[o][j][h] for o in others]) for h in range(heads)]
                    for j in (1, 2)
                )
                told, weights = read(
                    p, f"{key[name]}.blocks.{i}.attention", projected[name][0], k, v
                )
                after[name] = after[name] + told
                start = 0
                for other in others:
                    stop = start + len(sample[other])
                    share = weights[:, :, start:stop].sum(-1).mean(0) / layers
                    shares[name][other], start = shares[name][other] + share, stop
            after[name] = feedforward(p, f"{key[name]}.blocks.{i}", after[name])
        x = after
    return {name: layer_norm(p, f"{key[name]}.norm", steps) for name, steps in x.items()}, shares


def latent_fusion(module, sample):
    """The same with latents: sequences, and what each modality reads of which through them."""
    p, heads, layers = numbers(module), module.num_heads, module.num_layers
    key = {name: f"towers.@{name}" for name in sample}
    x = {name: linear(p, f"{key[name]}.input", steps) for name, steps in sample.items()}
    span = {name: clock(len(steps)) for name, steps in sample.items()}
    z = p["latents.vectors"]
    shares = {name: dict.fromkeys(sample.keys() - {name}, 0.0) for name in sample}
    for i in range(layers):
        told = {
            name: project(
                p,
                f"{key[name]}.blocks.{i}.attention",
                layer_norm(p, f"{key[name]}.blocks.{i}.attention_norm", x[name]),
                span[name],
                heads,
            )
            for name in sample
        }
        block = f"latents.blocks.{i}"

        def own(z, block=block):
            normed = layer_norm(p, f"{block}.attention_norm", z)
            return project(p, f"{block}.attention", normed, clock(len(z)), heads)

        k, v = (
            [np.concatenate([told[name][j][h] for name in sample]) for h in range(heads)]
            for j in (1, 2)
        )
        heard, weights = read(p, f"{block}.attention", own(z)[0], k, v)
        z = feedforward(p, block, z + heard)
        ends = np.cumsum([len(steps) for steps in sample.values()])[:-1]
        origins = [w.sum(-1) for w in np.split(weights.mean(0), ends, -1)]
        after = {}
        for name in sample:
            said, seen = read(p, f"{key[name]}.blocks.{i}.attention", told[name][0], *own(z)[1:])
            after[name] = feedforward(p, f"{key[name]}.blocks.{i}", x[name] + said)
            for other, origin in zip(sample, origins, strict=True):
                if other != name:
                    share = seen.mean(0) @ origin / layers
                    shares[name][other] = shares[name][other] + share
        x = after
    return {name: layer_norm(p, f"{key[name]}.norm", steps) for name, steps in x.items()}, shares
