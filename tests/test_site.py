"""The documentation is built once, with all recipes and examples; then its pages are read."""

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from filelock import FileLock

import modimpute

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SCRIPTS = sorted([*DOCS.glob("recipes/*.py"), *DOCS.glob("gallery/*.py")])
WITHOUT_LINKS_TO_THEM = {"genindex.html", "search.html"}  # the theme's own, linked where it likes

pytestmark = pytest.mark.xdist_group("site")  # one process, one build


class Page(HTMLParser):
    """The links, pictures, anchors and scripts of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.fetched, self.pictures, self.ids, self.outputs = [], [], [], set(), 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "iframe") and "src" in given:
            self.fetched.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.fetched.append(given["href"])
        if tag == "img":
            self.pictures.append(given)
        self.outputs += "sphx-glr-script-out" in (given.get("class") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id):
    """The folder of the built pages, shared by the processes if there are several."""
    pytest.importorskip("sphinx_gallery")
    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            shutil.rmtree(DOCS / "generated", ignore_errors=True)
            options = ["-W", "-n", "-q", "--keep-going", "-d", f"{folder}_doctrees"]
            command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def resolve(page, link):
    """The page and the anchor that a link leads to; no page: it leaves the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None, ""
    path = Path(page).parent.joinpath(unquote(parts.path)) if parts.path else Path(page)
    names = []
    for name in path.as_posix().split("/"):
        names = names[:-1] if name == ".." else [*names, *({name} - {".", ""})]
    return "/".join(names), unquote(parts.fragment)


def test_nothing_is_fetched_from_elsewhere(pages):
    elsewhere = {
        (name, source)
        for name, page in pages.items()
        for source in page.fetched
        if resolve(name, source)[0] is None and not source.startswith("data:")
    }
    assert not elsewhere


def test_every_public_name_has_a_page(pages):
    for name in modimpute.__all__:
        assert f"modimpute.{name}" in pages[f"generated/modimpute.{name}.html"].ids


def test_every_page_is_reached_from_the_start(pages):
    reached, todo = set(), ["index.html"]
    while todo:
        name = todo.pop()
        if name in pages and name not in reached:
            reached.add(name)
            todo += [target for link in pages[name].links if (target := resolve(name, link)[0])]
    assert pages.keys() - reached <= WITHOUT_LINKS_TO_THEM


def test_links_within_the_site_resolve(site, pages):
    broken = []
    for name, page in pages.items():
        for link in [*page.links, *page.fetched]:
            target, anchor = resolve(name, link)
            if target is None:
                continue
            there = (site / target).is_file()
            anchors = pages[target].ids if target in pages else {anchor}
            if not there or (anchor and anchor not in anchors):
                broken.append((name, link))
    assert not broken


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_recipe_and_example_has_output(pages, script):
    page = pages[f"generated/{script.parent.name}/{script.stem}.html"]
    drawn = [p for p in page.pictures if f"sphx_glr_{script.stem}_0" in p.get("src", "")]
    assert page.outputs or drawn
    assert drawn or script.parent.name == "recipes"


def test_every_script_was_run(site):
    report = ElementTree.parse(site / "examples.xml")
    cases = {case.get("file"): case for case in report.iter("testcase")}
    assert set(cases) == {path.relative_to(DOCS).as_posix() for path in SCRIPTS}
    assert not [file for file, case in cases.items() if len(case)]  # failed or skipped
    for file, case in cases.items():
        print(f"{float(case.get('time')):6.1f} s  {file}")  # shown with pytest -rP


def test_every_picture_says_what_it_shows(pages):
    for name, page in pages.items():
        for picture in page.pictures:
            if not picture["src"].endswith("_thumb.png"):  # a thumbnail stands beside its title
                assert len(picture["alt"]) > 40, (name, picture)


def test_search_needs_no_server(site, pages):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")  # a script, which a browser reads from disk
    assert all(name.lower() in index.lower() for name in modimpute.__all__)
    assert "searchindex.js" in " ".join(pages["search.html"].fetched)
