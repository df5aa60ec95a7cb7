"""What is compared with what, and at which sizes."""

import contextlib
import statistics
import subprocess
import sys

import torch

from examples.benchmarks.speed import peers
from examples.benchmarks.speed.floor import Encoder
from examples.benchmarks.speed.timing import compare, forward, saved_bytes, training_step
from modimpute import (
    ConsistencyLoss,
    CrossModalAttentionFusion,
    ModalityImputer,
    ModalityTranslator,
    TranslatorEnsemble,
    run_by_length,
    valid_from_lengths,
)

SETTINGS = ((32, 50, 40), (32, 50, 128), (16, 500, 40), (8, 500, 256))  # batch, steps, model_dim
UNALIGNED = ((32, 50, 75, 40), (16, 50, 500, 40), (8, 500, 375, 128))  # of source and target
HEADS = 4  # the default; MulT has 10 at model_dim 40
SOURCE_DIM, TARGET_DIM = 35, 74
MODALITIES = (2, 3, 4, 6, 8)
FUSIONS = ((32, 50, 40), (8, 200, 40))  # of any number of modalities; at all other sizes some
SOME = (3, 6)
RAGGED = ((16, 40), (32, 40), (16, 128))  # batch, model_dim
LONGEST = 500
GROWTH = (250, 500, 1000)
IMPORTS = 7  # turns
COMPILED = ("floor", "ModalityTranslator", "nn.TransformerEncoder")


class Bench:
    """Collects rows ``{section, setting, what, name, versus, ratio, low, high, turns}``."""

    def __init__(self, options, report):
        self.seconds, self.device, self.mult = options.seconds, options.device, options.mult
        self.wanted, self.report, self.rows = options.ways, report, []
        self.settings = (tuple(options.size),) if options.size else SETTINGS
        self.fusions = dict.fromkeys(self.settings, SOME)
        if not options.size:
            self.fusions |= dict.fromkeys(FUSIONS, MODALITIES)
        self.training = False  # what is compared in this round

    def add(self, section, setting, what, calls, way=None):
        """Times ``calls``, the first of which the others are compared with."""
        if ("backward" in what) != self.training:
            return
        with way or contextlib.nullcontext():
            ratios, turns = compare(calls, self.seconds, self.device)
        first = next(iter(calls))
        for name, (ratio, low, high) in ratios.items():
            if name != first:
                figures = {"ratio": ratio, "low": low, "high": high, "turns": turns}
                self.row(section, setting, what, name, first, **figures)

    def add_bytes(self, section, setting, steps):
        """Counts what is kept by ``steps``, ``(module, args, kwargs)`` each."""
        if not self.training:
            return
        sizes = {
            name: saved_bytes(m, *args, **kwargs) for name, (m, args, kwargs) in steps.items()
        }
        first = next(iter(sizes))
        for name, size in sizes.items():
            if name != first:
                figures = {"ratio": size / sizes[first], "bytes": size}
                self.row(section, setting, "bytes saved", name, first, **figures)

    def row(self, section, setting, what, name, versus, **figures):
        row = {"section": section, "setting": setting, "what": what, "name": name}
        self.rows.append(row | {"versus": versus} | figures)
        self.report(self.rows[-1])

    def draw(self, *shape):
        return torch.randn(*shape, device=self.device)

    def lengths(self, size, length):
        """From half to all of the steps; one sample has them all."""
        lengths = torch.randint(length // 2, length + 1, (size,))
        lengths[0] = length
        return valid_from_lengths(lengths, length).to(self.device)

    def ways(self, modules):
        """Yields ``(suffix, modules, context)`` for each way that is asked for."""
        lower = torch.autocast(torch.device(self.device).type, torch.bfloat16)
        if "plain" in self.wanted:
            yield "", modules, None
        if "bf16" in self.wanted:
            yield " bf16", modules, lower
        if "compiled" in self.wanted:  # which takes long: what it makes of explicit scores is left
            some = {name: x for name, x in modules.items() if name in COMPILED}
            yield " compiled", {name: torch.compile(x) for name, x in some.items()}, None


def translators(bench):
    for size, length, dim in bench.settings:
        setting = f"B{size} L{length} d{dim}"
        sizes = (SOURCE_DIM, TARGET_DIM, dim)
        x, valid = bench.draw(size, length, SOURCE_DIM), bench.lengths(size, length)
        plain = {
            "floor": Encoder(*sizes, HEADS),
            "ModalityTranslator": ModalityTranslator(
                *sizes[:2], model_dim=dim, num_heads=HEADS, dropout=0.0
            ),
            "nn.TransformerEncoder": peers.TorchEncoder(*sizes, HEADS, dropout=0.0),
            "explicit scores": peers.Explicit(*sizes, HEADS, dropout=0.0, attention_dropout=0.0),
        }
        with contextlib.suppress(ImportError):
            plain["x-transformers"] = peers.XTransformer(*sizes, HEADS, dropout=0.0)
        default = {
            "ModalityTranslator": ModalityTranslator(*sizes[:2], model_dim=dim),
            "nn.TransformerEncoder": peers.TorchEncoder(*sizes, HEADS),
            "explicit scores": peers.Explicit(*sizes, HEADS),
        }
        if dim % 10 == 0:
            default["explicit scores, 10 heads"] = peers.Explicit(*sizes, 10)
        if bench.mult:
            default["MulT"] = peers.MulT(bench.mult, *sizes, 10 if dim % 10 == 0 else 8)
        plain = {name: module.to(bench.device) for name, module in plain.items()}
        default = {name: module.to(bench.device) for name, module in default.items()}
        for section, modules in (("", plain), (" with its defaults", default)):
            for way, ready, context in bench.ways(modules):
                for what, make in (("forward", forward), ("forward + backward", training_step)):
                    calls = {name: make(m, x, valid=valid) for name, m in ready.items()}
                    bench.add(f"translator{section}", setting, f"{what}{way}", calls, context)
            steps = {name: (m, (x,), {"valid": valid}) for name, m in modules.items()}
            bench.add_bytes(f"translator{section}", setting, steps)
    steps = {}
    for length in GROWTH:
        module = ModalityTranslator(SOURCE_DIM, TARGET_DIM, model_dim=40).to(bench.device)
        x, valid = bench.draw(4, length, SOURCE_DIM), bench.lengths(4, length)
        steps[f"ModalityTranslator L{length}"] = (module, (x,), {"valid": valid})
    bench.add_bytes("translator", "B4 d40", steps)


def unaligned(bench):
    for size, source, target, dim in UNALIGNED:
        setting = f"B{size} L{source}→{target} d{dim}"
        sizes = (SOURCE_DIM, TARGET_DIM, dim, HEADS)
        x, valid = bench.draw(size, source, SOURCE_DIM), bench.lengths(size, source)
        ours = ModalityTranslator(*sizes[:2], model_dim=dim, dropout=0.0, aligned=False)
        modules = {
            "floor": Encoder(*sizes, queries=target),
            "nn.TransformerEncoder, nn.TransformerDecoder": peers.TorchEncoder(
                *sizes, queries=target, dropout=0.0
            ),
            "explicit scores": peers.Explicit(
                *sizes, queries=target, dropout=0.0, attention_dropout=0.0
            ),
        }
        modules = {name: module.to(bench.device) for name, module in modules.items()}
        ours = ours.to(bench.device)
        for what, make in (("forward", forward), ("forward + backward", training_step)):
            calls = {name: make(module, x, valid=valid) for name, module in modules.items()}
            calls["ModalityTranslator"] = make(ours, x, valid=valid, target_length=target)
            bench.add("translator, unaligned", setting, what, calls)


def ensembles(bench):
    """Beside two floors and a third one on what they say, concatenated."""

    class Floors(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.first, self.second = (Encoder(SOURCE_DIM, dim, dim, HEADS) for _ in range(2))
            self.further = Encoder(2 * dim, TARGET_DIM, dim, HEADS)

        def forward(self, sources, valid):
            first = self.first(sources["text"], valid["text"])
            second = self.second(sources["vision"], valid["vision"])
            return self.further(torch.cat((first, second), -1), valid["text"] | valid["vision"])

    for size, length, dim in bench.settings:
        members = {
            name: ModalityTranslator(SOURCE_DIM, dim, model_dim=dim, dropout=0.0)
            for name in ("text", "vision")
        }
        modules = {
            "three floors": Floors(dim),
            "TranslatorEnsemble": TranslatorEnsemble(
                members, TARGET_DIM, model_dim=dim, dropout=0.0
            ),
        }
        x = {name: bench.draw(size, length, SOURCE_DIM) for name in members}
        valid = {name: bench.lengths(size, length) for name in members}
        _both(bench, "ensemble", f"B{size} L{length} d{dim}", modules, x, valid)


def fusions(bench):
    for (size, length, dim), counts in bench.fusions.items():
        growth, linear = {}, {}
        for count in counts:
            dims = {f"m{i}": 10 + i for i in range(count)}
            options = {"model_dim": dim, "dropout": 0.0}
            modules = {
                "all pairs": peers.AllPairs(dims, dim, HEADS),
                "CrossModalAttentionFusion": CrossModalAttentionFusion(dims, **options),
                "num_latents=16": CrossModalAttentionFusion(dims, num_latents=16, **options),
            }
            x = {name: bench.draw(size, length, width) for name, width in dims.items()}
            valid = {name: bench.lengths(size, length) for name in dims}
            setting = f"M{count} B{size} L{length} d{dim}"
            _both(bench, "fusion", setting, modules, x, valid)
            growth[f"M{count}"] = training_step(modules["CrossModalAttentionFusion"], x)
            linear[f"M{count}"] = training_step(modules["num_latents=16"], x)
        if counts is SOME:
            continue
        setting = f"B{size} L{length} d{dim}"
        bench.add("fusion, growth", setting, "forward + backward", growth)
        bench.add("fusion, growth, num_latents=16", setting, "forward + backward", linear)


def imputers(bench):
    size, length, dim = 32, 50, 40
    for aligned in (True, False):
        growth, kind = {}, "aligned" if aligned else "unaligned"
        for count in MODALITIES:
            dims = {f"m{i}": 10 + i for i in range(count)}
            module = ModalityImputer(dims, model_dim=dim, aligned=aligned).to(bench.device)
            x = {name: bench.draw(size, length, width) for name, width in dims.items()}
            valid = {name: bench.lengths(size, length) for name in dims}
            growth[f"M{count}"] = training_step(module, x, valid=valid)
        setting = f"{kind} B{size} L{length} d{dim}"
        bench.add("imputer, growth", setting, "forward + backward", growth)
    dims = {f"m{i}": 10 + i for i in range(3)}
    module = ModalityImputer(dims, model_dim=dim).to(bench.device)
    x = {name: bench.draw(size, length, width) for name, width in dims.items()}
    everywhere = torch.ones(size, length, dtype=torch.bool, device=bench.device)
    valid = dict.fromkeys(dims, everywhere) | {"m0": torch.zeros_like(everywhere)}
    calls = {"all rows": training_step(module, x, valid=valid)}
    for part in (8, 4, 2):
        some = everywhere.clone()
        some[: size // part] = False
        rows = torch.arange(size // part)
        known = valid | {"m0": some}
        calls[f"1/{part} of the rows"] = training_step(module, x, valid=known, rows=rows)
    bench.add("imputer, rows", f"M3 B{size} L{length} d{dim}", "forward + backward", calls)


def ragged(bench):
    """Lengths spread evenly from 5 to 500 steps."""
    for size, dim in RAGGED:
        lengths = torch.linspace(5, LONGEST, size).long()[torch.randperm(size)]
        valid = valid_from_lengths(lengths, LONGEST).to(bench.device)
        module = ModalityTranslator(SOURCE_DIM, TARGET_DIM, model_dim=dim, dropout=0.0)
        module, x = module.to(bench.device), bench.draw(size, LONGEST, SOURCE_DIM)

        class ByLength(torch.nn.Module):
            def __init__(self, inner, lengths):
                super().__init__()
                self.inner, self.lengths = inner, lengths

            def forward(self, x):
                return run_by_length(self.inner, x, lengths=self.lengths)

        cut = ByLength(module, lengths)
        with torch.no_grad():
            torch.testing.assert_close(cut(x), module(x, valid=valid), atol=1e-4, rtol=1e-4)
        setting = f"B{size} L5…{LONGEST} d{dim}"
        calls = {"padded": forward(module, x, valid=valid), "run_by_length": forward(cut, x)}
        bench.add("ragged", setting, "forward", calls)
        calls = {"padded": training_step(module, x, valid=valid)}
        calls["run_by_length"] = training_step(cut, x)
        bench.add("ragged", setting, "forward + backward", calls)


def losses(bench):
    x, y = bench.draw(32, 500, TARGET_DIM), bench.draw(32, 500, TARGET_DIM)
    x.requires_grad_()
    valid, loss = bench.lengths(32, 500), ConsistencyLoss()

    class Plain(torch.nn.Module):
        def forward(self, x, y, valid):
            there = valid.unsqueeze(-1)
            return ((x - y).square() * there).sum() / (there.sum() * x.shape[-1])

    calls = {"(x - y)² · mask": training_step(Plain(), x, y, valid=valid)}
    calls["ConsistencyLoss"] = training_step(loss, x, y, valid=valid)
    bench.add("loss", "B32 L500 D74", "forward + backward", calls)


def imports(bench):
    """The CPU time of a fresh interpreter."""
    if not bench.training:
        return
    turns = []
    for _ in range(IMPORTS):
        turn = {}
        for module in ("torch", "modimpute"):
            begin = _children()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            turn[module] = _children() - begin
        turns.append(turn["modimpute"] / turn["torch"])
    low, ratio, high = statistics.quantiles(turns, n=4)
    figures = {"ratio": ratio, "low": low, "high": high, "turns": IMPORTS}
    bench.row("import", "", "import", "modimpute", "torch", **figures)


def _children():
    import resource  # not on every platform

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _both(bench, section, setting, modules, x, valid):
    modules = {name: module.to(bench.device) for name, module in modules.items()}
    for what, make in (("forward", forward), ("forward + backward", training_step)):
        calls = {name: make(module, x, valid=valid) for name, module in modules.items()}
        bench.add(section, setting, what, calls)
    steps = {name: (module, (x,), {"valid": valid}) for name, module in modules.items()}
    bench.add_bytes(section, setting, steps)
