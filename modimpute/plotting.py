from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modimpute._cells import COLUMNS, split_names
from modimpute._checks import check_choice
from modimpute.robustness import summarize_robustness

if TYPE_CHECKING:
    import matplotlib.axes

__all__ = ["plot_robustness"]

Rows = Sequence[Mapping[str, Any]]

# Okabe and Ito (2008): told apart with any colour vision; the yellow is too light for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")


def plot_robustness(
    rows: Rows | Mapping[str, Rows],
    *,
    kind: str = "rate",
    metric: str | None = None,
    label: str | None = None,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":
    r"""Draws a metric against the missing rate, or over the missing patterns, of some models.

    With "rate", a line per model: the mean over the seeds against the missing rate *reached*,
    in a band of one standard deviation to each side; the legend has the area under the curve
    (:func:`summarize_robustness`). With "pattern", a heat map: a line per pattern, where dots
    show which modalities are available, and a column per model.

    Args:
        rows: What :func:`evaluate_robustness` returned, or several such by the model's name.
        kind: ``"rate"`` or ``"pattern"``.
        metric: The name of the metric. Default: the only one there is.
        label: What to call the metric, with its unit ("error [mm]"). Default: its name.
        ax: The axes to draw into. Default: those of a new figure, ``ax.figure``.

    Shape:
        - Output: the axes

    Raises:
        ImportError: If matplotlib is not installed (``pip install modimpute[plot]``).
        ValueError: If there are no rows of this kind, or ``metric`` is unknown or not given
            although there are several.

    References:
        Okabe and Ito, Color Universal Design, 2008 (the colours); Lex et al., UpSet, 2014 (the
        dots).

    Example:
        >>> rows = [
        ...     {"kind": "rate", "rate": r, "rate_reached": r, "seed": s, "accuracy": 1 - r - s}
        ...     for r in (0.0, 0.3, 0.6)
        ...     for s in (0.0, 0.1)
        ... ]
        >>> ax = plot_robustness({"zeros": rows}, metric="accuracy")  # ax.figure.savefig(...)
        >>> ax.get_ylabel()
        'accuracy'
    """
    check_choice("kind", kind, ("rate", "pattern"))
    models = dict(rows) if isinstance(rows, Mapping) else {"": rows}
    metric = _find_metric(models, kind, metric)
    summaries = {}
    for model, part in models.items():
        lines = [line for line in summarize_robustness(part) if line["metric"] == metric]
        summaries[model] = lines
    axes = _new_axes(summaries, kind) if ax is None else ax
    draw = _draw_rates if kind == "rate" else _draw_patterns
    draw(axes, summaries, label or metric)
    return axes


def _find_metric(models: Mapping[str, Rows], kind: str, metric: str | None) -> str:
    if not models:
        raise ValueError("rows must hold at least one model, however: they are empty")
    for model, part in models.items():
        if not any(row["kind"] == kind for row in part):
            whose = f" of {model!r}" if model else ""
            raise ValueError(f"rows{whose} must hold kind {kind!r}, however: there is none")
    shared = set.intersection(*({*row} for part in models.values() for row in part))
    choices = tuple(sorted(shared.difference(COLUMNS)))
    if metric is None and len(choices) == 1:
        return choices[0]
    if metric is None or metric not in choices:
        rule = f"metric must be one of {choices}"
        raise ValueError(f"{rule}, however: metric={metric!r}")
    return metric


def _new_axes(summaries: Mapping[str, Rows], kind: str) -> "matplotlib.axes.Axes":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        rule = "plot_robustness must have matplotlib (pip install modimpute[plot])"
        raise ImportError(f"{rule}, however: {error}") from error
    if kind == "rate":
        return Figure(figsize=(6.4, 4.2), layout="constrained").subplots()
    patterns, names, _ = _layout(summaries)
    width = 2.8 + 0.45 * len(names) + 0.95 * len(summaries)
    height = 1.6 + 0.3 * len(patterns)
    return Figure(figsize=(width, height), layout="constrained").subplots()


def _draw_rates(ax: "matplotlib.axes.Axes", summaries: Mapping[str, Rows], label: str) -> None:
    spread = 0
    for i, (model, lines) in enumerate(summaries.items()):
        points = [line for line in lines if line["kind"] == "rate" and line["mean"] is not None]
        points.sort(key=lambda line: (line["rate_reached"], line["rate"]))
        x = [100 * line["rate_reached"] for line in points]
        y = [line["mean"] for line in points]
        area = next(line["mean"] for line in lines if line["kind"] == "auc")
        note = "AUC undefined" if area is None else f"AUC {area:.3g}"
        color = COLORS[i % len(COLORS)]
        ax.plot(
            x,
            y,
            color=color,
            linestyle=LINES[i % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            label=f"{model} ({note})" if model else note,
        )
        std = [line["std"] or 0.0 for line in points]
        if any(line["std"] is not None for line in points):
            spread = max(spread, *(line["runs"] for line in points))
            low = [mean - s for mean, s in zip(y, std, strict=True)]
            high = [mean + s for mean, s in zip(y, std, strict=True)]
            ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    ax.set_xlabel("missing rate reached [% of all modalities]")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    title = f"band: ± 1 standard deviation, {spread} seeds" if spread else None
    ax.legend(title=title, title_fontsize="small", fontsize="small")


def _draw_patterns(ax: "matplotlib.axes.Axes", summaries: Mapping[str, Rows], label: str) -> None:
    patterns, names, means = _layout(summaries)
    models = list(summaries)
    left = len(names) - 0.25  # the heat map begins here, right of the dots
    known = [value for line in means for value in line if value is not None]
    cells = [[float("nan") if value is None else value for value in line] for line in means]
    extent = (left, left + 2 * len(models), len(patterns) - 0.5, -0.5)
    image = ax.imshow(cells, cmap="cividis", aspect="auto", extent=extent)
    for y, pattern in enumerate(patterns):
        inside = [x for x, name in enumerate(names) if name in pattern]
        ax.scatter(range(len(names)), [y] * len(names), s=30, color="#DDDDDD", zorder=3)
        ax.plot(inside, [y] * len(inside), color="black", linewidth=1.5, zorder=2)
        ax.scatter(inside, [y] * len(inside), s=30, color="black", zorder=4)
        for i, value in enumerate(means[y]):
            text = "n/a" if value is None else f"{value:.3g}"
            middle = (min(known) + max(known)) / 2 if known else 0.0
            color = "black" if value is None or value > middle else "white"
            ax.text(
                left + 2 * i + 1, y, text, color=color, ha="center", va="center", fontsize="small"
            )
    ax.set_xlim(-0.6, extent[1])
    ax.set_ylim(len(patterns) - 0.5, -0.5)
    ticks = [*range(len(names)), *(left + 2 * i + 1 for i in range(len(models)))]
    ax.set_xticks(ticks, [*names, *models], rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks([])
    possible = {line["patterns_possible"] for lines in summaries.values() for line in lines}
    possible.discard(None)
    sampled = f", {len(patterns)} of {max(possible)}" if max(possible) > len(patterns) else ""
    ax.set_ylabel(f"missing pattern (black: available){sampled}")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if known and ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label=label)


def _layout(
    summaries: Mapping[str, Rows],
) -> tuple[list[tuple[str, ...]], list[str], list[list[float | None]]]:
    """Returns the patterns, the fewest available last, all names, and a mean per model."""
    tables = [
        {line["available"]: line["mean"] for line in lines if line["kind"] == "pattern"}
        for lines in summaries.values()
    ]
    split = {joined: split_names(joined) for table in tables for joined in table}
    order = sorted(split, key=lambda joined: (-len(split[joined]), split[joined]))
    names = sorted({name for pattern in split.values() for name in pattern})
    means = [[table.get(joined) for table in tables] for joined in order]
    return [split[joined] for joined in order], names, means
