"""Every example in README.md and docs/ runs, and the pages agree with the package."""

import re
import shutil
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


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_pages_name_no_machine_and_no_index(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|mnt|opt|root|tmp|work)/", text)
    assert not re.search(r"index-url|localhost|file://", text)


def test_site_builds_and_needs_no_network(tmp_path):
    pytest.importorskip("sphinx")
    shutil.rmtree(DOCS / "generated", ignore_errors=True)
    options = ["-W", "-n", "-q", "--keep-going", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "html")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    html = {
        page.relative_to(tmp_path / "html"): page.read_text(encoding="utf-8")
        for page in (tmp_path / "html").rglob("*.html")
    }
    for name in modimpute.__all__:
        assert Path("generated", f"modimpute.{name}.html") in html
    for page, text in html.items():
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=\"(?:https?:)?//", text)
        fetched += re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(?:https?:)?//", text)
        assert not fetched, page
