"""The build needs no network: fonts, scripts and formulas come from this folder or from furo."""

from torch import nn

from modimpute import __version__

project = "modimpute"
author = "modimpute developers"
copyright = "2026, modimpute developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_static", "_templates"]
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
    ("py:.*", r"(collections|matplotlib|numpy|pathlib|torch|typing)\..*"),
    ("py:.*", r"Tensor"),
]

html_theme = "furo"
html_title = f"modimpute {release}"
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False
mathjax_path = "mathjax/tex-svg.js"
# The menu would fetch further parts of MathJax, which are not kept here.
mathjax3_config = {"options": {"enableMenu": False}}


def setup(app):
    app.connect("autodoc-process-bases", _public_bases)


def _public_bases(_app, _name, _class, _options, bases):
    """What our classes share inside is nobody's business: they are torch modules."""
    inside = [base.__module__.startswith("modimpute._") for base in bases]
    bases[:] = [
        nn.Module if private else base for base, private in zip(bases, inside, strict=True)
    ]
