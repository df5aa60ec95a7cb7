import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from modimpute._cells import COLUMNS, Cell, check_seeds, make_row, plan
from modimpute._checks import check_choice, check_names
from modimpute._evaluation import find_names, run_cell
from modimpute._ledger import Ledger
from modimpute._summary import summarize

__all__ = ["evaluate_robustness", "summarize_robustness"]

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def evaluate_robustness(
    predict: Callable[..., Any],
    batches: Iterable[Any],
    metric: Callable[[Any, Any], float | Mapping[str, float]],
    *,
    modalities: Sequence[str] | None = None,
    patterns: Sequence[Iterable[str]] | int | None = None,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = (0, 1, 2),
    hide: str = "zero",
    stochastic: bool = False,
    out: str | Path | None = None,
    name: str = "",
    progress: bool = False,
) -> list[dict[str, Any]]:
    r"""Returns how well a model does when modalities are missing, as plain rows.

    The model is run over all data once per *cell*: under every missing pattern and, separately,
    at every missing rate with every seed. Each cell is one row of JSON types, so that
    ``json.dump(rows, file)``, ``csv.DictWriter(file, list(rows[0]))`` and
    ``pandas.DataFrame(rows)`` take the rows as they are:

    ===================== ====================================================================
    ``kind``              "pattern" or "rate"
    ``available``         of a pattern, the names that are *not* missing: "audio+text"
    ``patterns_possible`` of a pattern, :math:`2^M - 1`, however many were run
    ``rate``              the missing rate asked for, see :func:`drop_at_rate`
    ``rate_reached``      the missing rate that the masks, and the data's own gaps, amount to
    ``seed``              the seed, ``None`` where nothing is drawn
    ``n``, ``n_empty``    the number of samples, and of those that had nothing left
    *metrics*             a column per metric, "score" for a number; ``None``: not finite
    ===================== ====================================================================

    * Rates reach :math:`1 - 1/M` at most, since each sample keeps one modality: of the rates
      from there on only the smallest is run. Up to six modalities all :math:`2^M - 1` patterns
      are run; of more, 63 (drawn once for all seeds and models, complete data among them).
    * A sample is hit by the same gaps for the same seed, in batches of any size, and at a
      higher rate by the same ones and more. So compare models with equal seeds, row by row.
    * ``predict`` is called as ``predict(modalities, valid=valid)`` without gradients, where
      ``valid`` has every modality given. What is missing is hidden from it: a model that
      knows nothing of ``valid`` sees zeros.
    * A pattern draws nothing, so it is run once. If the model or the metric draws (sampled
      imputations, bootstrap), ``stochastic=True`` runs it with each seed. torch is seeded
      before every cell, and is afterwards in the state in which it was.
    * With ``out``, every finished cell is on disk before the next begins. The same call goes on
      after an interruption where it stopped, and with further seeds, rates or patterns runs
      only these. A file can tell other data by their labels, but not another model: give each
      model its own file, or a ``name``.

    Args:
        predict: The model: any callable, an ``nn.Module`` in eval mode for instance.
        batches: The data: a list, or a ``DataLoader`` with ``shuffle=False``, of
            ``(modalities, valid, labels)``; it is gone through once per cell.
        metric: Called as ``metric(predictions, labels)`` with those of all batches,
            concatenated, on the CPU. It returns a number, or a mapping of names to numbers.
        modalities: The names of all modalities. Default: those of the first batch.
        patterns: The names that are *missing* together, as :func:`missing_patterns` lists them
            (``()``: none); or how many patterns to draw. Default: see above. ``[]``: none.
        rates: The missing rates, in [0, 1]. ``[]``: none.
        seeds: The seeds, each a repetition.
        hide: What stands where a value is missing: ``"zero"``, or ``"nan"``, with which a
            prediction that is not finite raises: it proves that the model reads ``valid``.
        stochastic: Whether ``predict`` or ``metric`` draws random numbers.
        out: A file (JSON lines) that keeps the finished cells. Default: none.
        name: What is evaluated; a file of another name is refused.
        progress: Whether to show a progress bar, if rich is installed.

    Shape:
        - modalities of a batch: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid of a batch: mapping of names to :math:`(B, L_m)`, bool, or ``None``
        - labels, predictions: :math:`(B, *)`, tensors or arrays, or mappings of names to these
        - Output: a list of rows, patterns first

    Raises:
        TypeError: If an argument, a batch, a prediction or a metric has the wrong type.
        ValueError: If a name, shape, rate or seed does not fit, passes over the data differ, a
            prediction is not finite with ``hide="nan"``, or ``out`` is a file of something else.

    References:
        Wang et al., IMDer, 2023, and Lian et al., GCNet, 2022: fixed patterns and random
        missing rates. Difference: the same gaps in every repetition of a seed.

    Example:
        >>> batch = {"audio": torch.ones(4, 1, 1), "text": torch.ones(4, 1, 1)}
        >>> def predict(modalities, valid):
        ...     return sum(x.sum((1, 2)) for x in modalities.values())
        >>> def error(predictions, labels):
        ...     return (predictions - labels).abs().mean()
        >>> batches = [(batch, None, torch.full((4,), 2.0))]
        >>> rows = evaluate_robustness(predict, batches, error, rates=[0, 0.5], seeds=[0])
        >>> [(row["available"], row["rate_reached"], row["score"]) for row in rows]
        [('audio+text', 0.0, 0.0), ('text', 0.5, 1.0), ('audio', 0.5, 1.0), (None, 0.0, 0.0), (None, 0.5, 1.0)]
    """  # noqa: E501
    _check(predict, batches, metric, hide, stochastic, name)
    if modalities is None:
        modalities = find_names(batches)
    elif isinstance(modalities, str):
        rule = "modalities must be a sequence of names"
        raise TypeError(f"{rule}, however: modalities={modalities!r}")
    check_names("modalities", dict.fromkeys(modalities))
    names = tuple(sorted(set(modalities)))
    cells = plan(names, patterns, rates, check_seeds(seeds), stochastic)
    settings = {"name": name, "modalities": list(names), "hide": hide, "stochastic": stochastic}
    ledger = Ledger(out, settings)
    todo = [cell for cell in cells if cell not in ledger.results]
    with _progress(progress, len(cells), len(cells) - len(todo)) as advance:
        for cell in todo:
            result = run_cell(cell, predict, batches, metric, names, hide)
            _check_same(result, next(iter(ledger.results.values()), result))
            ledger.add(cell, result)
            advance()
    return [make_row(cell, ledger.results[cell], names) for cell in cells]


def summarize_robustness(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    r"""Returns mean and spread over the seeds, and the areas under the curves, as plain rows.

    One row per metric and ``kind``:

    * "pattern" and "rate": each pattern, and each rate, with the mean rate reached;
    * "incomplete": the mean over the patterns run in which something is missing, with their
      number in ``patterns`` and that of all such patterns in ``patterns_possible``;
    * "auc": the area under metric against rate *reached*, by the trapezoidal rule, divided by
      the width of the range: the mean height of the curve, in the unit of the metric.

    .. math:: \text{auc} = \frac{1}{r_K - r_1} \sum_{k=2}^{K} (r_k - r_{k-1})
              \frac{y_k + y_{k-1}}{2}

    Both of the last are computed for each seed first. ``std`` is the standard deviation over
    the seeds (divisor :math:`S - 1`), ``standard_error`` is ``std`` :math:`/ \sqrt{S}`; they
    are ``None`` for a single run, and every number is where a metric was ``None``.

    Args:
        rows: What :func:`evaluate_robustness` returned, for one model.

    Shape:
        - Output: a list of rows

    Raises:
        ValueError: If there are no rows, or a cell is there twice.

    References:
        Yuan et al., TFR-Net, 2021: the area under the curve over missing rates. Difference: it
        is normalised by the width.

    Example:
        >>> rows = [
        ...     {"kind": "rate", "rate": r, "rate_reached": r, "seed": 0, "n": 9, "accuracy": a}
        ...     for r, a in [(0.0, 1.0), (0.2, 0.8), (0.6, 0.4)]
        ... ]
        >>> area = summarize_robustness(rows)[-1]  # (0.2 * 0.9 + 0.4 * 0.6) / 0.6
        >>> area["kind"], round(area["mean"], 6)
        ('auc', 0.7)
    """
    rows = list(rows)
    if not rows:
        raise ValueError("rows must hold at least one row, however: they are empty")
    seen = set()
    for row in rows:
        cell = tuple(row.get(field) for field in Cell._fields)
        if cell in seen:
            rule = "rows must be of one model, each cell once"
            raise ValueError(f"{rule}, however: {dict(zip(Cell._fields, cell, strict=True))}")
        seen.add(cell)
    metrics = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    return [summary for metric in metrics for summary in summarize(rows, metric)]


def _check(
    predict: object, batches: object, metric: object, hide: object, stochastic: bool, name: object
) -> None:
    for argument, value in (("predict", predict), ("metric", metric)):
        if not callable(value):
            fact = f"type({argument})={type(value).__name__}"
            raise TypeError(f"{argument} must be callable, however: {fact}")
    if isinstance(predict, torch.nn.Module) and predict.training and not stochastic:
        rule = "predict must be in eval mode (or stochastic=True be given)"
        raise ValueError(f"{rule}, however: predict.training=True")
    if not isinstance(batches, Iterable) or isinstance(batches, Iterator):
        rule = "batches must be iterable more than once (a list, a DataLoader)"
        what = "an iterator" if isinstance(batches, Iterator) else "not iterable"
        raise TypeError(f"{rule}, however: a {type(batches).__name__} is {what}")
    check_choice("hide", hide, ("zero", "nan"))
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, however: name={name!r}")


def _check_same(result: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Raises if a pass saw other data than the first one, or gave other metrics."""
    for key in ("n", "labels"):
        if result[key] != first[key]:
            rule = "batches must yield the same samples in the same order in every pass"
            fact = f"n={result['n']} and n={first['n']}" if key == "n" else "their labels differ"
            raise ValueError(f"{rule}, however: {fact}")
    if list(result["metrics"]) != list(first["metrics"]):
        rule = "metric must return the same names in every cell"
        fact = f"{list(result['metrics'])} and {list(first['metrics'])}"
        raise ValueError(f"{rule}, however: {fact}")


@contextmanager
def _progress(show: bool, total: int, done: int) -> Iterator[Callable[[], object]]:
    if not show or importlib.util.find_spec("rich") is None:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("Robustness", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)
