"""The file of finished cells: one JSON line each, so that a killed run loses one cell at most."""

import json
import os
from pathlib import Path
from typing import Any

from modimpute._cells import Cell

FORMAT = {"format": "modimpute robustness", "version": 1}


class Ledger:
    """Reads the finished cells of a file and appends new ones; without a file, in memory only.

    The first line holds the settings on which every cell depends. Seeds, rates and patterns
    are not among them, they name the cells: more of them continue the same file.
    """

    def __init__(self, path: str | Path | None, settings: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.results: dict[Cell, dict[str, Any]] = {}
        if self.path is None:
            return
        header = {**FORMAT, "settings": settings}
        content = self.path.read_bytes() if self.path.exists() else b""
        # A line without an end was torn by a kill.
        *lines, torn = content.split(b"\n")
        if not lines and not _encode(header).startswith(torn):
            raise ValueError(f"{self._rule()}, however: {path} begins with {torn[:40]!r}")
        if lines:
            self._check_header(self._decode(lines[0], 1), header)
        for number, line in enumerate(lines[1:], 2):
            entry = self._decode(line, number)
            try:
                cell = Cell(*(entry["cell"][field] for field in Cell._fields))
                self.results.setdefault(cell, entry["result"])
            except (KeyError, TypeError):
                raise ValueError(f"{self._rule()}, however: line {number} has no cell") from None
        if torn:
            with self.path.open("r+b") as file:
                file.truncate(len(content) - len(torn))
        if not lines:
            self._append(header)

    def add(self, cell: Cell, result: dict[str, Any]) -> None:
        self.results[cell] = result
        if self.path is not None:
            self._append({"cell": cell._asdict(), "result": result})

    def _append(self, entry: dict[str, Any]) -> None:
        assert self.path is not None
        with self.path.open("ab") as file:
            file.write(_encode(entry))
            file.flush()
            os.fsync(file.fileno())

    def _decode(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise ValueError(f"{self._rule()}, however: line {number} is not a JSON object")
        return entry

    def _check_header(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        for key, value in FORMAT.items():
            if found.get(key) != value:
                fact = f"{key}={found.get(key)!r} in its first line"
                raise ValueError(f"{self._rule()}, however: {fact}")
        old, new = found.get("settings", {}), header["settings"]
        for key, value in new.items():
            if old.get(key) != value:
                rule = f"out must be a file of the same {key} (or a new one)"
                fact = f"{self.path} has {key}={old.get(key)!r}, this call has {value!r}"
                raise ValueError(f"{rule}, however: {fact}")

    def _rule(self) -> str:
        return "out must be a new file or one that evaluate_robustness wrote"


def _encode(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, allow_nan=False).encode() + b"\n"
