"""What a robustness evaluation runs: one cell per missing pattern or missing rate, and seed."""

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from modimpute._checks import check_known, check_sizes
from modimpute._draws import check_share
from modimpute.missing import missing_patterns

COLUMNS = (
    "kind",
    "available",
    "patterns_possible",
    "rate",
    "rate_reached",
    "seed",
    "n",
    "n_empty",
)
ALL_PATTERNS_UP_TO = 6  # modalities; above, as many patterns are sampled as six have


class Cell(NamedTuple):
    """One run over the data; ``available`` and ``rate`` exclude each other."""

    kind: str
    available: str | None
    rate: float | None
    seed: int | None


def join_names(names: Iterable[str]) -> str:
    """Returns one string for a set of names, one to one: "+" and "%" are percent-encoded."""
    return "+".join(name.replace("%", "%25").replace("+", "%2B") for name in sorted(names))


def split_names(joined: str) -> tuple[str, ...]:
    return tuple(name.replace("%2B", "+").replace("%25", "%") for name in joined.split("+"))


def plan(
    names: tuple[str, ...],
    patterns: Sequence[Iterable[str]] | int | None,
    rates: Sequence[float],
    seeds: Sequence[int],
    stochastic: bool,
) -> list[Cell]:
    cells = [
        Cell("pattern", join_names(set(names) - set(missing)), None, seed)
        for missing in choose_patterns(names, patterns)
        for seed in (seeds if stochastic else [None])  # a pattern draws nothing
    ]
    cells += [Cell("rate", None, rate, seed) for rate in cap(rates, len(names)) for seed in seeds]
    if not cells:
        rule = "patterns or rates must hold something to run"
        raise ValueError(f"{rule}, however: patterns={patterns!r}, rates={rates!r}")
    return cells


def choose_patterns(
    names: tuple[str, ...], patterns: Sequence[Iterable[str]] | int | None
) -> list[tuple[str, ...]]:
    """Returns the missing names of each pattern, the complete data first."""
    if patterns is None and len(names) <= ALL_PATTERNS_UP_TO:
        return [(), *missing_patterns(names)]
    if patterns is None or isinstance(patterns, int):
        count = 2**ALL_PATTERNS_UP_TO - 1 if patterns is None else patterns
        check_sizes(patterns=count)
        return _sample(names, min(count, 2 ** len(names) - 1))
    chosen: dict[tuple[str, ...], None] = {}
    for i, missing in enumerate(patterns):
        if isinstance(missing, str):
            rule = f"patterns[{i}] must be a sequence of names"
            raise TypeError(f"{rule}, however: patterns[{i}]={missing!r}")
        missing = tuple(sorted(set(missing)))
        check_known(f"patterns[{i}]", dict.fromkeys(missing), names)
        if len(missing) == len(names):
            rule = f"patterns[{i}] must leave at least one of {names}"
            raise ValueError(f"{rule}, however: all are missing")
        chosen[missing] = None
    return list(chosen)


def _sample(names: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
    """Draws patterns without replacement, the complete data always among them."""
    draw, drawn = random.Random(0), {0}  # one seed for all: results stay comparable
    if count == 2 ** len(names) - 1:
        drawn = set(range(count))
    while len(drawn) < count:
        bits = draw.getrandbits(len(names))
        if bits != 2 ** len(names) - 1:
            drawn.add(bits)
    missing = [tuple(n for i, n in enumerate(names) if bits >> i & 1) for bits in drawn]
    return sorted(missing, key=lambda pattern: (len(pattern), pattern))


def cap(rates: Sequence[float], count: int) -> list[float]:
    """Returns the rates in order, and of those beyond 1 - 1/M only the smallest."""
    for i, rate in enumerate(rates):
        check_share(f"rates[{i}]", rate)
    limit, kept = 1 - 1 / count, []
    for rate in sorted({float(rate) for rate in rates}):
        kept.append(rate)
        if rate >= limit - 1e-9:
            break
    return kept


def check_seeds(seeds: object) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be a sequence of ints, however: seeds={seeds!r}")
    checked = list(seeds)
    for i, seed in enumerate(checked):
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"seeds[{i}] must be an int, however: seeds[{i}]={seed!r}")
        if seed < 0:
            raise ValueError(f"seeds[{i}] must not be negative, however: seeds[{i}]={seed}")
    if len(set(checked)) < max(len(checked), 1):
        raise ValueError(f"seeds must hold different seeds, however: seeds={checked}")
    return checked


def make_row(cell: Cell, result: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the row of a cell: ``COLUMNS``, then a column per metric."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= cell._asdict() | {key: result[key] for key in COLUMNS if key in result}
    if cell.kind == "pattern":
        row["patterns_possible"] = 2 ** len(names) - 1
    row |= result["metrics"]
    return row
