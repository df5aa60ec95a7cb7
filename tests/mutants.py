"""Breaks the code on purpose, one small mutation at a time: each must turn a test red.

``make mutants``, or ``python tests/mutants.py [part of a name]``. Every mutation is made in a
copy of package and tests in a temporary folder, two at a time; nothing here is changed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("modimpute", "tests", "conftest.py", "pyproject.toml")
LIMIT = 300.0  # seconds for the tests of one mutant
WORKERS = 2


@dataclass(frozen=True)
class Mutant:
    """One exact replacement in one file, and the tests that ought to notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # arguments of pytest


MUTANTS = [
    # valid: what is not there is not read
    Mutant(
        "multiply by valid instead of selecting",
        "_valid.py",
        "torch.where(valid.unsqueeze(-1), x, 0.0)",
        "x * valid.unsqueeze(-1)",
        "tests/test_transformer.py tests/test_consistency.py",
    ),
    Mutant(
        "a learned vector leaves the graph where all is valid",
        "_valid.py",
        "    weight = x.new_ones((1, 1, 1)) if valid is None else ",
        "    if valid is None:\n        return x\n    weight = ",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "rows with nothing to read stay closed",
        "_valid.py",
        "return opened(valid).to(like.dtype)",
        "return valid.to(like.dtype)",
        "tests/test_transformer.py",
    ),
    Mutant(
        "an empty sample has no target steps by default",
        "_valid.py",
        "return opened(union)",
        "return union",
        "tests/test_ensemble.py",
    ),
    # attention and positions
    Mutant(
        "rotary sign",
        "_positions.py",
        "(a * cos - b * sin, b * cos + a * sin)",
        "(a * cos - b * sin, b * cos - a * sin)",
        "tests/test_transformer.py",
    ),
    Mutant(
        "rotation backwards",
        "_positions.py",
        "torch.polar(angles.new_ones(()), angles)",
        "torch.polar(angles.new_ones(()), -angles)",
        "tests/test_transformer.py",
    ),
    Mutant(
        "clock counts from step 0",
        "_positions.py",
        "(steps - before + 0.5)",
        "(steps + 0.5)",
        "tests/test_translator.py tests/test_fusion.py",
    ),
    Mutant(
        "clock does not see padding at the end",
        "_positions.py",
        "x.shape[1] - before - count_after(valid)",
        "x.shape[1] - before",
        "tests/test_translator.py tests/test_fusion.py",
    ),
    Mutant(
        "places count from step 0",
        "_positions.py",
        "steps = steps - count_before(exists)",
        "steps = steps.expand(len(exists), -1)",
        "tests/test_translator.py",
    ),
    Mutant(
        "no residual path",
        "_transformer.py",
        "x = added(x, dropped(attended, rate, again))",
        "x = dropped(attended, rate, again)",
        "tests/test_transformer.py",
    ),
    Mutant(
        "keys and values swapped",
        "_transformer.py",
        "key, value = rotate(fused, by, 1, self._shape)",
        "value, key = rotate(fused, by, 1, self._shape)",
        "tests/test_transformer.py",
    ),
    Mutant(
        "filled up heads are scaled as wider ones",
        "_transformer.py",
        "scale = None if width == self.head_dim else self.head_dim**-0.5",
        "scale = None",
        "tests/test_transformer.py",
    ),
    Mutant(
        "attention dropout outside training",
        "_transformer.py",
        "self.attention_dropout if self.training else 0.0",
        "self.attention_dropout",
        "tests/test_transformer.py",
    ),
    # translator
    Mutant(
        "translator forgets valid in the attention",
        "translator.py",
        "mask = attention_mask(valid, x)",
        "mask = None",
        "tests/test_translator.py",
    ),
    Mutant(
        "translator forgets the gap vector",
        "translator.py",
        "x = blend(valid, x, self.gap)",
        "x = keep(valid, x)",
        "tests/test_translator.py",
    ),
    Mutant(
        "translator in the dtype of autocast",
        "translator.py",
        "out = of_module(self.output, x).to(self.output.weight.dtype)",
        "out = of_module(self.output, x)",
        "tests/test_translator.py",
    ),
    Mutant(
        "translator without positions does not learn",
        "translator.py",
        "by = rotation(step_positions(x), self.model_dim, self.num_heads)",
        "by = rotation(step_positions(x) * 0, self.model_dim, self.num_heads)",
        "tests/test_translator.py -k Learns",
    ),
    Mutant(
        "source and target on two clocks",
        "translator.py",
        "rotation(clock_positions(encoded, valid), *sizes)",
        "rotation(step_positions(encoded), *sizes)",
        "tests/test_translator.py -k Formula",
    ),
    Mutant(
        "an opinion about nothing",
        "translator.py",
        "readable = None if exists is valid else any_valid(valid)",
        "readable = None",
        "tests/test_translator.py",
    ),
    # ensemble
    Mutant(
        "ensemble forgets the missing vector",
        "_members.py",
        "torch.where(where.unsqueeze(-1), self.bias, self.missing)",
        "torch.where(where.unsqueeze(-1), self.bias, 0 * self.missing)",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "absent members do not run in training",
        "ensemble.py",
        "fill=self.training",
        "fill=False",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "absent members do not run in training: two processes",
        "ensemble.py",
        "fill=self.training",
        "fill=False",
        "tests/test_distributed.py",
    ),
    Mutant(
        "members are handed what is not valid",
        "_asking.py",
        "keep(valid.get(name), sources[name]).to(like.dtype)",
        "sources[name].to(like.dtype)",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "members are not told of target_valid",
        "_members.py",
        "if self.takes_target_valid:",
        "if False:",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "what members say of nothing is read",
        "_members.py",
        "keep(heard, translation.to(self.weight.dtype))",
        "translation.to(self.weight.dtype)",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "ensemble forgets target_valid in the attention",
        "ensemble.py",
        "attention_mask(target_valid, x)",
        "None",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "any answer of a member is taken",
        "_asking.py",
        'check_shape(f"translators[{name!r}](...)", x, shape)',
        "x",
        "tests/test_errors.py",
    ),
    # fusion
    Mutant(
        "fusion forgets valid in the attention",
        "_cross.py",
        "masks = {name: attention_mask(valid, x[name]) for name, valid in readable.items()}",
        "masks = {name: None for name in readable}",
        "tests/test_fusion.py",
    ),
    Mutant(
        "reads where no other modality is there",
        "_cross.py",
        "attended if weight is None else attended * weight",
        "attended",
        "tests/test_fusion.py",
    ),
    Mutant(
        "masks of the wrong modalities",
        "_cross.py",
        "for n, v in valids.items() if n != name}",
        "for n, v in valids.items() if n != max(valids)}",
        "tests/test_fusion.py",
    ),
    Mutant(
        "the mean divides by the length",
        "_tower.py",
        "x.sum(1, dtype=dtype) / valid.sum(-1, keepdim=True).clamp(min=1)",
        "x.mean(1, dtype=dtype)",
        "tests/test_fusion.py",
    ),
    Mutant(
        "the mean is taken in half precision",
        "_tower.py",
        "x.sum(1, dtype=dtype)",
        "x.sum(1)",
        "tests/test_fusion.py",
    ),
    Mutant(
        "the last step but one",
        "_tower.py",
        "x.shape[1] - 1 - count_after(valid)",
        "x.shape[1] - 2 - count_after(valid)",
        "tests/test_fusion.py",
    ),
    Mutant(
        "modalities in the order of the dict",
        "fusion.py",
        "for name in sorted(modality_dims)}",
        "for name in modality_dims}",
        "tests/test_fusion.py",
    ),
    Mutant(
        "members in the order of the dict",
        "_names.py",
        "self.names = tuple(sorted(modules))",
        "self.names = tuple(modules)",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "names are not escaped one to one",
        "_names.py",
        '.replace("%", "%25")',
        "",
        "tests/test_ensemble.py",
    ),
    Mutant(
        "latents read what is not there",
        "_latents.py",
        "mask = attention_mask(join(valids, x), self.vectors)",
        "mask = None",
        "tests/test_fusion.py",
    ),
    Mutant(
        "latents are read before they have read",
        "_latents.py",
        "latents = block.finish(latents, block.attention.read(query, key, value, mask))",
        "block.finish(latents, block.attention.read(query, key, value, mask))",
        "tests/test_fusion.py",
    ),
    Mutant(
        "latents begin all alike",
        "_latents.py",
        "nn.init.normal_(self.vectors)",
        "nn.init.normal_(self.vectors, std=0.02)",
        "tests/test_fusion.py",
    ),
    Mutant(
        "aligned modalities meet latents on clocks of their own",
        "fusion.py",
        "exists = shared if here else known",
        "exists = known",
        "tests/test_fusion.py",
    ),
    # ragged batches
    Mutant(
        "samples come back in the order of their lengths",
        "ragged.py",
        "back = order.argsort()",
        "back = torch.arange(len(order))",
        "tests/test_ragged.py",
    ),
    Mutant(
        "gaps are forgotten in buckets",
        "ragged.py",
        "there[name] &= known[name][:, :end].index_select(0, index)",
        "pass",
        "tests/test_ragged.py",
    ),
    Mutant(
        "buckets are not cut",
        "ragged.py",
        "int(cut[rows].max()) if size else 0",
        "int(cut.max()) if size else 0",
        "tests/test_ragged.py",
    ),
    # losses
    Mutant(
        "the mean over nothing",
        "consistency.py",
        "(valid.sum() * width).clamp(min=1)",
        "(valid.sum() * width)",
        "tests/test_consistency.py",
    ),
    Mutant(
        "the mean over steps, not over elements",
        "consistency.py",
        "(valid.sum() * width).clamp(min=1)",
        "valid.sum().clamp(min=1)",
        "tests/test_consistency.py",
    ),
    Mutant(
        "cosine without its clamp",
        "consistency.py",
        ".clamp(min=1.0).rsqrt()",
        ".rsqrt()",
        "tests/test_consistency.py",
    ),
    Mutant(
        "cosine counts what is not valid",
        "consistency.py",
        "loss = torch.where(valid, loss, 0.0)",
        "pass",
        "tests/test_consistency.py",
    ),
    Mutant(
        "losses broadcast",
        "consistency.py",
        "if reconstructed.shape != target.shape:",
        "if False:",
        "tests/test_errors.py",
    ),
    Mutant(
        "sums in half precision",
        "consistency.py",
        "dtype = torch.promote_types(dtype, torch.float32)",
        "pass",
        "tests/test_consistency.py",
    ),
    # batches and checks
    Mutant(
        "padding at the wrong end",
        "batching.py",
        "padded[i, : lengths[i]] = row[name]",
        "padded[i, length - lengths[i] :] = row[name]",
        "tests/test_batching.py",
    ),
    Mutant(
        "one step too many is valid",
        "batching.py",
        "< lengths.unsqueeze(-1)",
        "<= lengths.unsqueeze(-1)",
        "tests/test_batching.py",
    ),
    Mutant(
        "valid of any dtype",
        "_checks.py",
        "if valid.dtype != torch.bool:",
        "if False:",
        "tests/test_errors.py",
    ),
    Mutant(
        "valid of any device",
        "_checks.py",
        "    check_device(name, valid, device)\n",
        "",
        "tests/test_errors.py",
    ),
    Mutant(
        "any batch sizes",
        "_checks.py",
        "if x.shape[0] != modalities[first].shape[0]:",
        "if False:",
        "tests/test_errors.py",
    ),
    # the imputer
    Mutant(
        "a valid value is replaced by the prediction",
        "_imputing.py",
        "choose(valid, given, keep(exists, predicted))",
        "keep(exists, predicted)",
        "tests/test_imputer.py",
    ),
    Mutant(
        "steps that do not exist are filled",
        "_imputing.py",
        "choose(valid, given, keep(exists, predicted))",
        "choose(valid, given, predicted)",
        "tests/test_imputer.py",
    ),
    Mutant(
        "a decoder leaves the graph where all is valid",
        "_imputing.py",
        "return choose(valid, given, keep(exists, predicted))",
        "return given if valid is None else choose(valid, given, keep(exists, predicted))",
        "tests/test_imputer.py",
    ),
    Mutant(
        "a target counts from its first valid step",
        "_imputing.py",
        "if n not in targets} | self.exists",
        "}",
        "tests/test_imputer.py",
    ),
    Mutant(
        "a modality hears itself",
        "_hub.py",
        "[b + a for b, a in zip(before, reversed(after), strict=True)]",
        "[sum(parts, zero)] * len(parts)",
        "tests/test_imputer.py",
    ),
    Mutant(
        "what the others say is the total less its own",
        "_hub.py",
        "[b + a for b, a in zip(before, reversed(after), strict=True)]",
        "[sum(parts, zero) - part for part in parts]",
        "tests/test_imputer.py",
    ),
    Mutant(
        "a sample that lacks a modality hears it",
        "_hub.py",
        "blend(any_valid(valids.get(name)), part, vector)",
        "blend(None, part, vector)",
        "tests/test_imputer.py",
    ),
    Mutant(
        "an encoder that is not needed stays out of training",
        "imputer.py",
        "                if not self.training:\n                    continue\n",
        "                continue\n",
        "tests/test_imputer.py",
    ),
    Mutant(
        "a batch without a row to run trains nothing",
        "imputer.py",
        "elif self.training:  # every parameter takes part",
        "elif False:",
        "tests/test_imputer.py",
    ),
    # simulated missingness and the normaliser
    Mutant(
        "modality dropout takes the last one",
        "dropout.py",
        "(u >= self.rate) | one_of(available, u)",
        "(u >= self.rate)",
        "tests/test_dropout.py",
    ),
    Mutant(
        "the missing rate forgets the modality that is kept",
        "missing.py",
        "(u >= rate * count / (count - 1).clamp(min=1))",
        "(u >= rate)",
        "tests/test_missing.py",
    ),
    Mutant(
        "a draw depends on the place in the batch",
        "_draws.py",
        "_mix(self.index * _GAMMA + start)",
        "_mix(torch.arange(self.index.shape[0], device=self.index.device) * _GAMMA + start)",
        "tests/test_missing.py",
    ),
    Mutant(
        "the deviation forgets that means differ between batches",
        "normalizer.py",
        " + shift.square() * weight * (1 - weight)",
        "",
        "tests/test_normalizer.py",
    ),
    Mutant(
        "padding counts in the mean",
        "normalizer.py",
        "if valid is None else valid\n        new = steps.sum()",
        "\n        new = steps.sum()",
        "tests/test_normalizer.py",
    ),
    # members that remember
    Mutant(
        "memory: the penalty is forgotten",
        "_ridge.py",
        "return self.basis @ ((self.basis.mT @ self.y) / shrunk.unsqueeze(-1))",
        "return self.basis @ ((self.basis.mT @ self.y) / self.values.unsqueeze(-1))",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: no row is left out",
        "_ridge.py",
        "return self.y - (self.y - fit) / (1 - leverage).clamp(min=1e-6).unsqueeze(-1)",
        "return fit",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: zeros where the target does not exist",
        "_ridge.py",
        "    if bool((weight > 0).all()):\n",
        "    if True:\n",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: a query sees itself",
        "retrieval.py",
        "            hidden = hidden | (index.unsqueeze(-1) == owner)\n",
        "            hidden = hidden | (index.unsqueeze(-1) == owner) & False\n",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: training sees its own row",
        "_leave_one_out.py",
        "module._told(noisy(batch.x), number, memory, batch.owner)",
        "module._told(noisy(batch.x), number, memory, None)",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: retrieval learns in half precision",
        "_leave_one_out.py",
        "dtype = torch.promote_types(table.x.dtype, torch.float32)",
        "dtype = table.x.dtype",
        "tests/test_memory.py",
    ),
    Mutant(
        "kernel: half precision rounds each product",
        "kernel.py",
        "(product @ self.coefficients[number].to(dtype)).to(x.dtype)",
        "product.to(x.dtype) @ self.coefficients[number]",
        "tests/test_memory.py",
    ),
    Mutant(
        "recipe: half precision is fitted as it is",
        "_data.py",
        "dtype = torch.promote_types(target.dtype, torch.float32)",
        "dtype = target.dtype",
        "tests/test_recipe.py::test_half_precision_is_fitted_in_single",
    ),
    Mutant(
        "memory: rows without the source are read",
        "retrieval.py",
        "lacks = [~available.select(-1, column) for column in self._columns(number)]",
        "lacks = [~available.any(-1)]",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: one solution for all subsets",
        "_subsets.py",
        "            found.append((number, served))\n",
        "            found.append((0, served))\n",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: the last subset serves, not the first",
        "_subsets.py",
        "in reversed(answers)",
        "in answers",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: places count from step 0",
        "_examples.py",
        "steps = places if exists is None else places + count_before(exists)",
        "steps = places",
        "tests/test_invariants.py",
    ),
    Mutant(
        "memory: the patch is laid the wrong way round",
        "_examples.py",
        "shift = k - self.patch",
        "shift = self.patch - k",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: the clock begins at step 0",
        "_examples.py",
        "twice = (2 * (steps - first) + 1) * other_count",
        "twice = (2 * steps + 1) * other_count",
        "tests/test_invariants.py",
    ),
    Mutant(
        "memory: only the kept examples are fitted",
        "kernel.py",
        "t.having(self._columns(number)) for t in (kept, table)",
        "t.having(self._columns(number)) for t in (kept, kept)",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: all windows are fitted",
        "kernel.py",
        "table = table.some(max(WINDOWS, self.memory_size), generator)",
        "pass",
        "tests/test_memory.py -k windows_some",
    ),
    Mutant(
        "memory: fewer windows are fitted than are kept",
        "kernel.py",
        "max(WINDOWS, self.memory_size)",
        "WINDOWS",
        "tests/test_memory.py -k windows_some",
    ),
    Mutant(
        "recipe: batches are as large however long the sequences are",
        "_training.py",
        "max(1, min(BATCH, READ // longest))",
        "BATCH",
        "tests/test_recipe.py -k batches",
    ),
    Mutant(
        "recipe: more samples are not trained for more steps",
        "_training.py",
        "SEEN * len(rows) / batch)",
        "0)",
        "tests/test_recipe.py -k more_samples",
    ),
    Mutant(
        "recipe: most steps are as many however long the sequences are",
        "_training.py",
        "min(MOST * shorter,",
        "min(MOST,",
        "tests/test_recipe.py -k more_samples",
    ),
    Mutant(
        "recipe: short sequences are trained for more steps than vectors",
        "_training.py",
        "min(1.0, LONG / longest)",
        "(LONG / longest)",
        "tests/test_recipe.py -k small",
    ),
    Mutant(
        "recipe: networks of many sequences are wider, too",
        "_defaults.py",
        "if vectors and size >= ENOUGH",
        "if size >= ENOUGH",
        "tests/test_recipe.py -k wider",
    ),
    Mutant(
        "memory: windows of one sample tell each other",
        "_kernel_learning.py",
        "own = inverse * (owner.unsqueeze(-1) == owner)",
        "own = torch.diag_embed(inverse.diagonal())",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: scales stay as they start",
        "kernel.py",
        "        if self.steps:\n",
        "        if self.steps < 0:\n",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: nobody says how long things are",
        "_examples.py",
        "y.clamp(-FAR, FAR), 0.0)",
        "0 * y, 0.0)",
        "tests/test_memory.py",
    ),
    Mutant(
        "memory: validation rows are remembered",
        "_remembering.py",
        "fitted = table.pick(~held)",
        "fitted = table",
        "tests/test_memory.py",
    ),
    Mutant(
        "weights may be negative",
        "_evidence.py",
        "    positive = weight.clamp(min=0)\n",
        "    positive = weight\n",
        "tests/test_recipe.py",
    ),
    Mutant(
        "weights may exceed one",
        "_evidence.py",
        "    if float(positive @ unit) <= 1:\n",
        "    if True:\n",
        "tests/test_recipe.py::test_weights_are_the_best_that_are_allowed",
    ),
    Mutant(
        "weights: the mean has no share",
        "_weights.py",
        "        total = self.mean.view(1, 1, -1)\n",
        "        total = 0 * self.mean.view(1, 1, -1)\n",
        "tests/test_recipe.py",
    ),
    Mutant(
        "recipe: groups are torn apart",
        "recipe.py",
        "torch.unique(rows if groups is None else groups[rows], return_inverse=True)",
        "torch.unique(rows, return_inverse=True)",
        "tests/test_recipe.py",
    ),
    Mutant(
        "recipe: what was held out is not remembered",
        "recipe.py",
        "            module.remember(own.read, own.target, **options)\n",
        "            pass\n",
        "tests/test_recipe.py",
    ),
    Mutant(
        "donors: what nobody has is compared",
        "donor.py",
        "        hidden = shared == 0\n",
        "        hidden = shared < 0\n",
        "tests/test_donor.py tests/test_invariants.py -k donor",
    ),
    Mutant(
        "donors: samples are their own",
        "_held_out.py",
        "for rows in (held, ~held)",
        "for rows in (held, held)",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: the share is not used",
        "_weights.py",
        "valid=exists, share=share, **options)",
        "valid=exists, **options)",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: in the end only the kept samples",
        "_held_out.py",
        "            self._remember(donors, data, seed)[number]()\n",
        "            pass\n",
        "tests/test_donor.py",
    ),
    Mutant(
        "recipe: kernels keep what was chosen last",
        "recipe.py",
        "                module._average(choices[member.name])\n",
        "                pass\n",
        "tests/test_recipe.py::test_kernels_keep_the_mean_of_what_all_parts_chose",
    ),
    Mutant(
        "recipe: thirds, however few the samples are",
        "recipe.py",
        "folds = FOLDS if len(rows) >= FEW or length >= LONG else MORE_FOLDS",
        "folds = FOLDS",
        "tests/test_recipe.py::test_the_fewer_samples_the_more_parts_are_held_out",
    ),
    Mutant(
        "kernel: projections are averaged as they are",
        "_mixture.py",
        "mean = basis[:, :size] * root[:size] / len(parts) ** 0.5",
        "mean = torch.stack(parts).mean(0)[:, :size]",
        "tests/test_recipe.py::test_projections_that_are_turned_have_a_mean",
    ),
    Mutant(
        "kernel: the matrix to be solved is of single precision",
        "_kernel_solution.py",
        "[mixture(part, basis, spread) for part",
        "[wide(mixture(part.float(), basis.float(), spread)) for part",
        "tests/test_memory.py::test_small_differences_of_features_that_are_alike_are_heard",
    ),
    Mutant(
        "kernel: it is learned in single precision to the end",
        "_kernel_learning.py",
        "        else:  # the matrix was not definite: another batch, wider\n"
        "            rows, y = rows.wide(), wide(y)\n"
        "            if held is not None:\n"
        "                told_by, held = told_by.wide(), held.wide()\n",
        "",
        "tests/test_memory.py::test_small_differences_of_features_that_are_alike_are_heard",
    ),
    Mutant(
        "kernel: of a matrix that is not definite something is told",
        "_kernel_learning.py",
        "torch.where(failed > 0, eye, factor)",
        "factor",
        "tests/test_memory.py::test_a_matrix_that_is_not_definite_tells_nothing",
    ),
    Mutant(
        "kernel: of a large memory one part is solved for",
        "_kernel_solution.py",
        "left.addmm_(product.mT, product)",
        "left.copy_(product.mT @ product)",
        "tests/test_memory.py -k parts",
    ),
    Mutant(
        "recipe: as much is remembered of any number of sources",
        "_defaults.py",
        "size * len(solved_subsets(tuple(sources)))",
        "size",
        "tests/test_recipe.py -k remembered",
    ),
    Mutant(
        "recipe: retrieval remembers as much as kernels",
        "_defaults.py",
        '{"memory_size": min(size, memory or MEMORY), **whole}',
        '{"memory_size": _remembered(sources, target, size, memory), **whole}',
        "tests/test_recipe.py -k remembered",
    ),
    Mutant(
        "recipe: samples of any width are remembered in numbers",
        "_defaults.py",
        "MEMORY if wide else max",
        "max",
        "tests/test_recipe.py -k remembered",
    ),
    Mutant(
        "kernel: the linear part is rounded as the coefficients are",
        "_kernel_solution.py",
        "return solution, mixture.line(basis).mT @ solution, mean",
        "return solution, mixture.line(basis).mT @ solution.float().double(), mean",
        "tests/test_memory.py::test_small_differences_of_features_that_are_alike_are_heard",
    ),
    Mutant(
        "linear: features that nearly say the same are shrunk",
        "_ridge.py",
        "range(-12, 5)",
        "range(-8, 5)",
        "tests/test_memory.py::test_small_differences_of_features_that_are_alike_are_heard",
    ),
    Mutant(
        "weights: who says far too much slows the others down",
        "_evidence.py",
        "torch.where(unit.isfinite(), unit, 1.0)",
        "torch.ones_like(unit)",
        "tests/test_recipe.py::test_who_says_far_too_much_takes_nothing_from_the_others",
    ),
    Mutant(
        "inflation: the tolerance means nothing",
        "_evidence.py",
        "factor = moment / size + (tolerance * (least / size).clamp(max=LITTLE)).sqrt()",
        "factor = moment / size",
        "tests/test_recipe.py::test_weights_are_multiplied_by_what_the_tolerance_allows",
    ),
    Mutant(
        "inflation: answers may vary more than the target",
        "_evidence.py",
        "factor.minimum((self.power / size).sqrt()).clamp(min=1)",
        "factor.clamp(min=1)",
        "tests/test_recipe.py::test_weights_are_multiplied_by_what_the_tolerance_allows",
    ),
    Mutant(
        "inflation: of what is hardly told, without bounds",
        "_evidence.py",
        "(least / size).clamp(max=LITTLE)",
        "(least / size)",
        "tests/test_recipe.py::test_weights_are_multiplied_by_what_the_tolerance_allows",
    ),
    Mutant(
        "inflation: beside donors, too",
        "_weights.py",
        "spent = tolerance if self.donors is None else 0.0",
        "spent = tolerance",
        "tests/test_recipe.py::test_answers_vary_as_much_more_as_the_tolerance_says",
    ),
    Mutant(
        "default: donors of one's own are left out",
        "default.py",
        "donors or default_donors(*of)",
        "default_donors(*of)",
        "tests/test_recipe.py -k rebuilt",
    ),
    Mutant(
        "default: steps belong together, whatever is said",
        "default.py",
        "    if aligned is None:\n        aligned",
        "    if True:\n        aligned",
        "tests/test_recipe.py -k rebuilt",
    ),
    Mutant(
        "inflation: members of one's own, too",
        "_defaults.py",
        "return 0.0 if own else AWAY",
        "return AWAY",
        "tests/test_recipe.py::test_answers_vary_as_much_more_as_the_tolerance_says",
    ),
    Mutant(
        "inflation: shares add up to more than one",
        "_weights.py",
        "weight, given = self.weight[row] / inflation, 0.0",
        "weight, given = self.weight[row], 0.0",
        "tests/test_recipe.py::test_answers_vary_as_much_more_as_the_tolerance_says",
    ),
    Mutant(
        "variation: the tolerance means nothing",
        "_evidence.py",
        "if not (tolerance > 0 and float(self.power * motion) > 0):",
        "if True:",
        "tests/test_variation.py::test_answers_move_as_far_as_the_tolerance_says",
    ),
    Mutant(
        "variation: what inflation errs is not counted",
        "_evidence.py",
        "self._gained(weight) - most + tolerance * (self.power - most)",
        "tolerance * (self.power - most)",
        "tests/test_variation.py::test_share_is_what_is_left_of_the_tolerance",
    ),
    Mutant(
        "variation: answers may vary more than the target",
        "_evidence.py",
        "spare.minimum(self.power - size).clamp(min=0)",
        "spare.clamp(min=0)",
        "tests/test_variation.py::test_share_is_what_is_left_of_the_tolerance",
    ),
    Mutant(
        "variation: further than the target moves",
        "_evidence.py",
        "(spare / (self.power * motion)).sqrt().clamp(max=1)",
        "(spare / (self.power * motion)).sqrt()",
        "tests/test_variation.py::test_answers_move_at_most_as_the_target_does",
    ),
    Mutant(
        "variation: what stands still is moved, too",
        "_evidence.py",
        "keep(there, x - own).square()",
        "keep(there, x - x.mean((0, 1))).square()",
        "tests/test_variation.py::test_answers_move_as_far_as_the_tolerance_says",
    ),
    Mutant(
        "variation: gaps are motion",
        "_evidence.py",
        "keep(both, x.diff(dim=1))",
        "x.diff(dim=1)",
        "tests/test_variation.py::test_gaps_are_no_motion_and_missing_values_are_not_read",
    ),
    Mutant(
        "variation: all features at one pace",
        "_variation.py",
        "units.likeness.acos()",
        "units.likeness.acos() * 0 + 1.5",
        "tests/test_variation.py::test_neighbouring_steps_are_as_much_alike_as_those_of_the_target",
    ),
    Mutant(
        "variation: samples without sources stand still",
        "_variation.py",
        "nothing.power += 1",
        "nothing.power += 0",
        "tests/test_variation.py::test_samples_without_sources_get_the_mean_and_move_with_the_others",
    ),
    Mutant(
        "donors: sources are not compared",
        "donor.py",
        "            scores = scores - beside\n",
        "            pass\n",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: who lacks the sources is the nearest",
        "_source_memory.py",
        "torch.where(shared > 0, distance, distance.sum(-1, keepdim=True) / count)",
        "distance",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: a remembered sample is its own nearest",
        "_source_memory.py",
        "masked_fill((shared == 0) | own, torch.inf)",
        "masked_fill(shared == 0, torch.inf)",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: sources are compared always",
        "_held_out.py",
        "if error <= most)",
        "if error <= inf)",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: their sources stay those of the last part",
        "_held_out.py",
        "            self._remember(donors, data, seed)[number]()\n",
        "            self._remember(donors, data, seed)[0]()\n",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: tolerance means nothing",
        "_evidence.py",
        "(kept + kept / free * (tolerance * least / size).sqrt()).clamp(max=1)",
        "kept",
        "tests/test_donor.py",
    ),
    Mutant(
        "donors: a step that they lack is zero",
        "donor.py",
        "torch.where(found > TINY, donors, wide)",
        "torch.where(found >= 0, donors, wide)",
        "tests/test_donor.py",
    ),
    Mutant(
        "units: the weights count features alike",
        "_weighable.py",
        "units_of(target, there, standardize_target)",
        "units_of(target, there, True)",
        "tests/test_recipe.py -k units",
    ),
    Mutant(
        "units: members count features alike",
        "recipe.py",
        'options["standardize_target"] = False',
        "pass",
        "tests/test_recipe.py -k units",
    ),
    Mutant(
        "units: networks count features alike",
        "_training.py",
        "moments(fitted.target, fitted.there, data.alike)",
        "moments(fitted.target, fitted.there)",
        "tests/test_recipe.py -k units",
    ),
    Mutant(
        "units: donors count features alike",
        "_held_out.py",
        "            standardize_target=data.alike,\n",
        "",
        "tests/test_recipe.py -k units",
    ),
    Mutant(
        "dropout: what is kept is not scaled",
        "_elementwise.py",
        "2**16 / (2**16 - hidden)",
        "1.0",
        "tests/test_transformer.py -k Dropped",
    ),
    Mutant(
        "dropout: half of what is asked for",
        "_elementwise.py",
        "sixteen >= hidden - 2**15",
        "sixteen.abs() >= hidden // 4",
        "tests/test_transformer.py -k Dropped",
    ),
    Mutant(
        "dropout: four elements of one draw fall together",
        "_elementwise.py",
        "draws.view(torch.int16)[: x.numel()]",
        "draws.repeat_interleave(4)[: x.numel()].to(torch.int16)",
        "tests/test_transformer.py -k Dropped",
    ),
    Mutant(
        "recomputed: the activation is not dropped again",
        "_recomputed.py",
        "            factor = factors(kept, ctx.scale, x)\n            hidden.mul_(factor)\n",
        "            factor = factors(kept, ctx.scale, x)\n",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: the gradient is not dropped",
        "_recomputed.py",
        "            of_hidden.mul_(factor)\n",
        "            pass\n",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: the gradient of a dropped state is not",
        "_elementwise.py",
        "return gradient * factors(kept, ctx.scale, gradient), None, None",
        "return gradient, None, None",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: hooks and adapters are passed over",
        "_product.py",
        "return type(module) is kind and not (",
        "return True or not (",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: what a hook has seen is written to",
        "_product.py",
        "return out.clone()",
        "return out",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: autocast casts inside",
        "_recomputed.py",
        "    if torch.is_autocast_enabled(kind) and dtype != torch.float64:\n"
        "        dtype = torch.get_autocast_dtype(kind)\n",
        "",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: functional transforms, too",
        "_elementwise.py",
        " or torch._C._are_functorch_transforms_active()",
        "",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "recomputed: dual numbers, too",
        "_elementwise.py",
        " or forward_ad._current_level >= 0",
        "",
        "tests/test_recomputed.py",
    ),
    Mutant(
        "product: of a view, which must not be written to",
        "_product.py",
        "return cast(Tensor, torch.ops.aten._unsafe_view(rows, shape))",
        "return rows.view(shape)",
        "tests/test_product.py",
    ),
    Mutant(
        "product: gradients of any layout",
        "_product.py",
        "return x.contiguous().flatten(0, -2)",
        "return x.flatten(0, -2)",
        "tests/test_product.py",
    ),
    Mutant(
        "product: autocast is not heard",
        "_product.py",
        ' or torch.is_autocast_enabled("cpu")',
        "",
        "tests/test_product.py",
    ),
    Mutant(
        "product: subclasses are taken for tensors",
        "_product.py",
        "ours = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)",
        "ours = True",
        "tests/test_product.py",
    ),
    Mutant(
        "product: what is frozen is computed",
        "_product.py",
        "input_gradient(gradient, x, weight) if needed[0] else None",
        "input_gradient(gradient, x, weight)",
        "tests/test_product.py",
    ),
    Mutant(
        "product: on processors of others, too",
        "_processor.py",
        'and str(_capabilities().get("cpu_name")).startswith("AMD")',
        "",
        "tests/test_processor.py",
    ),
    Mutant(
        "product: of whatever processor",
        "_product.py",
        "if not is_amd():",
        "if False:",
        "tests/test_product.py",
    ),
    Mutant(
        "product: sums over rows where 512 bits take two steps",
        "_product.py",
        "(min(weight.shape) >= WIDE and x.is_contiguous())",
        "min(weight.shape) >= WIDE",
        "tests/test_product.py",
    ),
    Mutant(
        "product: narrow rows where 512 bits take two steps",
        "_product.py",
        "(min(weight.shape) >= WIDE and x.is_contiguous())",
        "x.is_contiguous()",
        "tests/test_product.py",
    ),
    Mutant(
        "heads: filled up for few queries, too",
        "_transformer.py",
        "min(queries, keys) >= LONG",
        "keys >= LONG",
        "tests/test_transformer.py",
    ),
    Mutant(
        "heads: filled up on processors of others, too",
        "_transformer.py",
        " or not is_amd():\n            return 0",
        ":\n            return 0",
        "tests/test_transformer.py",
    ),
    Mutant(
        "heads: filled up in lower precision, too",
        "_transformer.py",
        ' or torch.is_autocast_enabled("cpu")',
        "",
        "tests/test_transformer.py",
    ),
    Mutant(
        "heads: filled up where the weights are looked at",
        "_cross.py",
        "    if shares is None:\n        attention",
        "    if True:\n        attention",
        "tests/test_fusion.py",
    ),
    Mutant(
        "heads: filled up in a traced program, too",
        "_transformer.py",
        'like.device.type != "cpu" or is_transformed():',
        'like.device.type != "cpu":',
        "tests/test_transformer.py",
    ),
    Mutant(
        "valid: bits of what is not there pass in the backward pass",
        "_valid.py",
        "return None, keep(ctx.saved_tensors[0], gradient)",
        "return None, gradient",
        "tests/test_transformer.py",
    ),
    Mutant(
        "pieces: hooks see them",
        "_transformer.py",
        "if not rows or rate or not self._is_plain():",
        "if not rows or rate:",
        "tests/test_transformer.py",
    ),
    Mutant(
        "pieces: never",
        "_elementwise.py",
        "if rows * width >= WIDE else 0",
        "if rows * width < 0 else 0",
        "tests/test_transformer.py",
    ),
    Mutant(
        "recomputed: never",
        "_elementwise.py",
        "x.numel() >= LARGE",
        "False",
        "tests/test_recomputed.py tests/test_cost.py",
    ),
    Mutant(
        "recipe: the guard is off",
        "recipe.py",
        "0.0 if groups is None else GUARD",
        "0.0",
        "tests/test_recipe.py",
    ),
]


def copy_to(folder):
    """Copies package and tests, without what earlier runs left behind."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)


def run_tests(folder, tests):
    """Runs pytest on the copy in ``folder``; returns its exit status and what it printed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        result = subprocess.run(
            [*command, *tests.split()],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {LIMIT:.0f} s"
    return result.returncode, result.stdout


def applied(mutant):
    """Returns the mutated text; refuses a mutant whose string is not there exactly once."""
    text = (ROOT / "modimpute" / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        rule = f"mutant {mutant.name!r}: its string must stand in {mutant.file} once"
        raise SystemExit(f"{rule}, however: {text.count(mutant.old)} times:\n{mutant.old}")
    return text.replace(mutant.old, mutant.new)


def kill(mutant):
    """Returns whether a test turned red, which one, and the seconds it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_to(folder)
        (folder / "modimpute" / mutant.file).write_text(applied(mutant), encoding="utf-8")
        status, output = run_tests(folder, mutant.tests)
    red = re.search(r"^(?:FAILED|ERROR) tests/[^:]+::(.+?)(?: - .*)?$", output, re.M)
    killed = status == 1 and red is not None  # 2 and more: the tests themselves did not run
    told = red[1][:72] if red else f"pytest {status}: {(output.splitlines() or [''])[-1]}"
    return killed, told, time.monotonic() - start


def baseline(mutants):
    """Without any mutation the tests must be green, and run on the copy."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_to(folder)
        whole = {file for m in mutants if "-k" not in m.tests for file in m.tests.split()}
        parts = {m.tests for m in mutants if "-k" in m.tests and m.tests.split()[0] not in whole}
        for tests in (" ".join(sorted(whole)), *sorted(parts)):
            if tests:
                status, output = run_tests(folder, tests)
                if status:
                    rule = "the tests must be green without a mutation"
                    raise SystemExit(f"{rule}, however:\n{output}")
        where = subprocess.run(
            [sys.executable, "-c", "import modimpute; print(modimpute.__file__)"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not Path(where.strip()).resolve().is_relative_to(folder.resolve()):
            raise SystemExit(f"the tests must run on the copy, however: modimpute is {where}")


def main():
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    mutants = [mutant for mutant in MUTANTS if part in mutant.name]
    for mutant in mutants:
        applied(mutant)
    start, survivors = time.monotonic(), []
    baseline(mutants)
    print(f"no mutation: green, {time.monotonic() - start:.0f} s", flush=True)
    with ThreadPoolExecutor(WORKERS) as pool:
        for mutant, result in zip(mutants, pool.map(kill, mutants), strict=True):
            killed, told, seconds = result
            if not killed:
                survivors.append(mutant.name)
            mark = "red     " if killed else "SURVIVES"
            line = f"{mark}  {mutant.name:<52}  {mutant.file:<15}  {seconds:4.0f} s  {told}"
            print(line, flush=True)
    total = time.monotonic() - start
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} turned a test red, {total:.0f} s")
    if survivors:
        sys.exit(f"these mutants survive: {', '.join(survivors)}")


if __name__ == "__main__":
    main()
