"""Every example in README.md and docs/ runs, and the pages agree with the package.

The built site is looked at in test_site.py.
"""

import doctest
import importlib.util
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import modimpute

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
NOT_PAGES = {"_build", "_static", "_templates", "generated"}
PAGES = [README] + [
    page
    for page in sorted(DOCS.rglob("*"))
    if page.suffix in {".md", ".rst"} and not NOT_PAGES & set(page.relative_to(DOCS).parts)
]
SCRIPTS = sorted([*DOCS.glob("recipes/*.py"), *DOCS.glob("gallery/*.py")])
FENCED = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
DIRECTIVE = re.compile(r"^\.\. code-block:: python\n((?:\n| .*\n)+)", re.M)


def python_blocks(page):
    """Returns the Python blocks of a page, each with the number of lines before it."""
    text = page.read_text(encoding="utf-8")
    pattern = FENCED if page.suffix == ".md" else DIRECTIVE
    return [
        (text.count("\n", 0, match.start(1)), textwrap.dedent(match[1]))
        for match in pattern.finditer(text)
    ]


def page_id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=page_id)
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace = {"__name__": "__main__"}  # the blocks of a page build upon each other
    for line, block in python_blocks(page):
        exec(compile("\n" * line + block, page, "exec"), namespace)


def test_readme_composition_is_complete_short_and_typed(tmp_path):
    (_, composition), *_ = python_blocks(README)
    assert len(composition.splitlines()) <= 25
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(composition, encoding="utf-8")
    cache = ROOT / ".mypy_cache"  # checking torch anew would take a minute
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(script)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_api_lists_every_public_name_once():
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    tables = re.findall(r"^\.\. autosummary::\n(?:   :.*\n)*\n((?:   \w+\n)+)", text, re.M)
    assert sorted(" ".join(tables).split()) == sorted(modimpute.__all__)


@pytest.mark.parametrize("page", PAGES + SCRIPTS, ids=page_id)
def test_pages_name_no_machine_and_no_index(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|mnt|opt|root|tmp|work)/", text)
    assert not re.search(r"index-url|localhost|file://", text)


@pytest.mark.parametrize("page", [p for p in PAGES if ">>> " in p.read_text()], ids=page_id)
def test_sessions_give_what_they_show(page):
    session = doctest.DocTestParser().get_doctest(
        page.read_text(encoding="utf-8"), {}, page.name, str(page), 0
    )
    failed, attempted = doctest.DocTestRunner(verbose=False).run(session, out=print)
    assert attempted
    assert not failed


def test_errors_page_has_every_rule_that_all_layers_share():
    source = Path(modimpute.__file__).with_name("_checks.py").read_text(encoding="utf-8")
    rules = set(re.findall(r"must [a-zA-Z ]*[a-zA-Z]", source))
    assert rules
    page = (DOCS / "errors.rst").read_text(encoding="utf-8")
    assert not sorted(rule for rule in rules if rule not in page)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_is_of_a_kind_that_is_run(page):
    text = page.read_text(encoding="utf-8")
    kinds = re.findall(r"^ *(?:\.\. code-block:: |```)(\S+)", text, re.M)
    assert set(kinds) <= {"python", "pycon", "sh", "{include}"}  # sh: see the next test
    assert not re.search(r"^[^.\n].*::\n\n +\S", text, re.M)  # a literal block, of no kind


@pytest.mark.parametrize("page", PAGES + SCRIPTS, ids=page_id)
def test_commands_exist(page):
    for name in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        if spec.submodule_search_locations:
            assert importlib.util.find_spec(f"{name}.__main__") is not None, name


def test_recorded_numbers_are_those_of_the_table():
    readme = (ROOT / "examples" / "mosi_sentiment" / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^### ", readme, flags=re.M)
    names = ["synthetic-dependent", "synthetic-independent", "cmu_mosi_utterances"]
    tables = [
        part
        for name in [*names, "cmu_mosi_sequences"]
        for part in parts[1:]
        if part.startswith(name)
    ]
    script = (DOCS / "gallery" / "plot_mosi.py").read_text(encoding="utf-8")
    groups = re.findall(r'^    "[^"]*": \{\n(.*?)^    \},$', script, re.M | re.S)
    assert len(groups) == len(tables) == 4
    rows = {"zeros for audio": "full, zeros", "mean for audio": "full, mean", "real": "full"}
    for group, table in zip(groups, tables, strict=True):
        for line in group.splitlines():
            name, mean, low, high = re.match(r' *"(.+)": \((.+), (.+), (.+)\),', line).groups()
            row = next((row for key, row in rows.items() if key in name), name)
            assert f"| reconstruction minus {row} | {mean} | [{low}, {high}] |" in table
