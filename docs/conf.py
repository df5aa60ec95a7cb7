"""The build needs no network: fonts, scripts and formulas come from this folder or from furo."""

import sys
from pathlib import Path
from xml.etree import ElementTree

from sphinx.util.logging import getLogger
from sphinx_gallery.sorting import ExplicitOrder
from torch import nn

from modimpute import __version__

sys.path.insert(0, str(Path(__file__).parent))  # _figures
logger = getLogger(__name__)

project = "modimpute"
author = "modimpute developers"
copyright = "2026, modimpute developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
# The pages of the last two are made from their scripts, in generated/.
exclude_patterns = ["_build", "_static", "_templates", "gallery", "recipes"]
templates_path = ["_templates"]

autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
python_display_short_literal_types = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

# Names that other projects document; ours must all resolve.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|numpy|pathlib|torch|typing)\..*"),
    ("py:.*", r"Tensor"),
]

# In this order, and each of them: one that is not listed stops the build.
EXAMPLES = [
    "pretrained_model.py",
    "own_encoders.py",
    "loop_pytorch.py",
    "loop_accelerate.py",
    "loop_lightning.py",
    "variable_length.py",
    "frame_gaps.py",
    "save_and_load.py",
    "many_gpus.py",
    "ensemble_member.py",
    "add_modality.py",
    "plot_digits.py",
    "plot_missing_sensor.py",
    "plot_robustness_curves.py",
    "plot_attention.py",
    "plot_alignment.py",
    "plot_mosi.py",
]
sphinx_gallery_conf = {
    "examples_dirs": ["recipes", "gallery"],
    "gallery_dirs": ["generated/recipes", "generated/gallery"],
    "filename_pattern": r"\.py$",  # run all of them, not only plot_*
    "within_subsection_order": ExplicitOrder(EXAMPLES),
    "abort_on_example_error": True,
    "image_scrapers": ["_figures.scrape"],
    "image_srcset": ["2x"],
    "default_thumb_file": str(Path(__file__).parent / "_static" / "recipe.png"),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("modimpute",),
    "reference_url": {"modimpute": None},
    "copyfile_regex": r"index\.rst",  # that of the recipes is written by hand
    "capture_repr": (),  # only what is printed
    "download_all_examples": False,
    "notebook_extensions": {},
    "show_signature": False,
    "min_reported_time": 3600,  # times of one machine are no news on a page; they are in junit
    "write_computation_times": False,  # its page wants a CDN
    "junit": "examples.xml",
}

# The one name of matplotlib that our signatures have, in a file, so that nothing is fetched.
intersphinx_mapping = {
    "matplotlib": ("https://matplotlib.org/stable/", "matplotlib.inv")
}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"modimpute {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
mathjax_path = "mathjax/tex-svg.js"
# The menu would fetch further parts of MathJax, which are not kept here.
mathjax3_config = {"options": {"enableMenu": False}}


def setup(app):
    app.connect("autodoc-process-bases", _public_bases)
    app.connect(
        "build-finished", _show_times, priority=900
    )  # after sphinx-gallery's own


def _show_times(app, exception):
    """How long each script ran, by sphinx-gallery's clock."""
    report = Path(app.outdir, "examples.xml")
    if exception is None and report.is_file():
        cases = list(ElementTree.parse(report).iter("testcase"))
        times = {case.get("file"): float(case.get("time")) for case in cases}
        for file, seconds in times.items():
            logger.info(f"{seconds:6.1f} s  {file}")
        logger.info(f"{sum(times.values()):6.1f} s  all {len(times)} scripts")


def _public_bases(_app, _name, _class, _options, bases):
    """What our classes share inside is nobody's business: they are torch modules."""
    inside = [base.__module__.startswith("modimpute._") for base in bases]
    bases[:] = [
        nn.Module if private else base
        for base, private in zip(bases, inside, strict=True)
    ]
