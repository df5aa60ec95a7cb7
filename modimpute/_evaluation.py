"""One pass of a user's model over the data, under one missing pattern or missing rate."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from modimpute._cells import COLUMNS, Cell, split_names
from modimpute._checks import check_known, check_names
from modimpute._draws import all_valid
from modimpute._valid import keep
from modimpute.missing import drop_at_rate, drop_pattern, missing_rate

Values = Tensor | dict[str, Tensor]


def open_batch(number: int, batch: object) -> tuple[dict[str, Tensor], dict[str, Tensor], object]:
    """Checks one batch of the user and returns its modalities, complete ``valid`` and labels."""
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) != 3:
        rule = "batches must yield (modalities, valid, labels)"
        size = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
        fact = f"batch {number} is a {type(batch).__name__}{size}"
        raise TypeError(f"{rule}, however: {fact}")
    modalities, valid, labels = batch
    complete = all_valid(modalities, valid)
    return {name: modalities[name] for name in complete}, complete, labels


def find_names(batches: Iterable[Any]) -> tuple[str, ...]:
    for batch in batches:
        return tuple(open_batch(0, batch)[1])
    raise ValueError("batches must yield at least one batch, however: they are empty")


def run_cell(
    cell: Cell,
    predict: Callable[..., Any],
    batches: Iterable[Any],
    metric: Callable[[Any, Any], Any],
    names: tuple[str, ...],
    hide: str,
) -> dict[str, Any]:
    """Returns what the ledger keeps: metrics, facts of the masks and a digest of the labels."""
    predictions: list[Values] = []
    labels: list[Values] = []
    n, n_empty, lacking = 0, 0, 0.0
    with seeded(cell.seed or 0), torch.no_grad():
        for number, batch in enumerate(batches):
            modalities, valid, label = open_batch(number, batch)
            check_known("modalities", modalities, names, f" (batch {number} has others)")
            kept = _mask(cell, modalities, valid, names, n)
            # What a batch does not have at all is missing in each of its samples.
            absent = torch.zeros_like(next(iter(kept.values()))[:, :1])
            share = missing_rate({name: kept.get(name, absent) for name in names})
            size = share.shape[0]
            hidden = {name: _hide(x, kept[name], hide) for name, x in modalities.items()}
            prediction = _values("predict must return", predict(hidden, valid=kept), size)
            if hide == "nan":
                _check_finite(prediction, number, cell)
            predictions.append(prediction)
            labels.append(_values(f"batch {number} must have labels of", label, size))
            n, n_empty = n + size, n_empty + int((share == 1).sum())
            lacking += float((share * len(names)).round().sum(dtype=torch.float64))
        if not n:
            raise ValueError("batches must hold at least one sample, however: they hold none")
        truth = _concatenate(labels, "labels")
        metrics = _metrics(metric(_concatenate(predictions, "predictions"), truth))
    return {
        "rate_reached": lacking / (n * len(names)),
        "n": n,
        "n_empty": n_empty,
        "labels": _digest(truth),
        "metrics": metrics,
    }


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch for a model that draws, so that a resumed run draws the same.

    The caller's generators go on afterwards as if nothing had been drawn.
    """
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpu = [torch.cuda.current_device()] if used else []
    with torch.random.fork_rng(devices=gpu):
        torch.default_generator.manual_seed(seed)
        if gpu:
            torch.cuda.manual_seed(seed)
        yield


def _mask(
    cell: Cell,
    modalities: Mapping[str, Tensor],
    valid: Mapping[str, Tensor],
    names: tuple[str, ...],
    start: int,
) -> dict[str, Tensor]:
    if cell.available is not None:
        missing = set(names) - set(split_names(cell.available))
        return drop_pattern(modalities, missing & set(modalities), valid=valid)
    assert cell.rate is not None
    size = next(iter(valid.values())).shape[0]
    index = torch.arange(start, start + size)
    return drop_at_rate(modalities, cell.rate, valid=valid, seed=cell.seed, index=index)


def _hide(x: Tensor, valid: Tensor, hide: str) -> Tensor:
    return keep(valid, x) if hide == "zero" else torch.where(valid.unsqueeze(-1), x, torch.nan)


def _values(rule: str, values: object, size: int) -> Values:
    """Returns one tensor, or several by name, on the CPU: one row per sample."""
    if isinstance(values, Mapping):
        return {str(key): _rows(f"{rule} ({key!r})", values[key], size) for key in values}
    return _rows(rule, values, size)


def _rows(rule: str, values: Any, size: int) -> Tensor:  # noqa: ANN401
    rule = f"{rule} a Tensor (or an array) with one row per sample"
    try:
        x = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{rule}, however: its type is {type(values).__name__}") from None
    if x.dim() < 1 or x.shape[0] != size:
        raise ValueError(f"{rule}, however: its shape is {tuple(x.shape)} for {size} samples")
    return x


def _concatenate(parts: Sequence[Values], what: str) -> Values:
    tensors = [part for part in parts if isinstance(part, Tensor)]
    named = [part for part in parts if isinstance(part, dict)]
    if tensors and not named:
        return torch.cat(tensors)
    if tensors or any(part.keys() != named[0].keys() for part in named):
        raise ValueError(f"{what} must be of one kind in every batch, however: they differ")
    return {key: torch.cat([part[key] for part in named]) for key in named[0]}


def _check_finite(values: Values, number: int, cell: Cell) -> None:
    for x in values.values() if isinstance(values, dict) else [values]:
        if x.is_floating_point() and not x.isfinite().all():
            rule = 'predict must not read what is missing (without valid: hide="zero")'
            where = f"rate={cell.rate}" if cell.available is None else f"only {cell.available}"
            fact = f"predictions of batch {number} with {where} are not finite"
            raise ValueError(f"{rule}, however: {fact}")


def _metrics(values: Any) -> dict[str, float | None]:  # noqa: ANN401
    named = values if isinstance(values, Mapping) else {"score": values}
    check_names("metric's result", named)
    result: dict[str, float | None] = {}
    for name, value in named.items():
        if name in COLUMNS:
            raise ValueError(f"metric must not return the names {COLUMNS}, however: {name!r}")
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            rule = f"metric must return a number (or a mapping of names to numbers) for {name!r}"
            raise TypeError(f"{rule}, however: its type is {type(value).__name__}") from None
        result[name] = number if math.isfinite(number) else None  # JSON has neither NaN nor Inf
    return result


def _digest(values: Values) -> int:
    """Returns a number that tells other labels, or another order of them, with near certainty."""
    digest = 0
    for x in values.values() if isinstance(values, dict) else [values]:
        content = x.contiguous().reshape(-1).view(torch.uint8).to(torch.int64)
        weights = torch.arange(1, content.numel() + 1) * -0x61C8864680B583EB
        digest = (digest * 31 + int((content * (weights ^ (weights >> 29))).sum())) % 2**53
    return digest
