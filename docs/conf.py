"""Sphinx settings, for ``python -m sphinx -W -b html docs docs/_build/html``; needs no network."""

import contextlib
import io
import os
import pathlib
import sys
import warnings

from sphinx.util import logging

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))  # the extensions next to this file
sys.path.insert(0, str(HERE.parent))

import history  # noqa: E402

import numba_stn  # noqa: E402

# Let autodoc import the public modules that are attributes of the package by their public names.
sys.modules["numba_stn.inline"] = numba_stn.inline
for name in ("deformations", "maps", "matrices", "matrices_3d"):
    sys.modules[f"numba_stn.{name}"] = getattr(numba_stn, name)

project = "numba_stn"
author = "The numba_stn developers"
copyright = "2026, the numba_stn developers"
version = release = numba_stn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "over_time",
]
exclude_patterns = ["_build", "results", "gallery", "sg_execution_times.rst", "examples/*.ipynb"]

# --- Texts ----------------------------------------------------------------------------------------

source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
pygments_style = "friendly"

# --- The reference --------------------------------------------------------------------------------

templates_path = ["templates"]
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which annotations do not
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
default_role = None

# --- The gallery ----------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "capture_repr": (),  # show what a page prints, not the value of its last line
    "abort_on_example_error": True,
    "parallel": True,  # build as many pages at once as -j allows
    "reset_modules": ("matplotlib", "picture_style.reset"),
}
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")

# --- Appearance -----------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "numba_stn"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is set
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {
        "text": "numba_stn",
        "image_light": "static/favicon.svg",
        "image_dark": "static/favicon.svg",
    },
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "pygments_light_style": "friendly",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {
    name: [] for name in ("index", "start", "how", "coming-from", "performance", "gpu", "chinese")
}

# --- Files written at build time ------------------------------------------------------------------


def write_helps(app):
    """Write each command's help to reference/generated/COMMAND.txt."""
    from numba_stn import cli

    folder = HERE / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "90"
    for command in cli.COMMANDS:
        name = command.__name__.rpartition(".")[2]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            cli.main([name, "--help"])
        (folder / f"{name}.txt").write_text(said.getvalue())


def skip_fields(app, what, name, obj, skip, options):
    """Skip the fields of named tuples, which their class docstrings describe."""
    return True if type(obj).__name__ == "_tuplegetter" else skip


def write_history(app, exception):
    """Write the speed history's site next to the pages, or a page that says why there is none."""
    if app.builder.name != "html" or exception is not None:
        return
    if reason := history.write(pathlib.Path(app.outdir, "history")):
        logging.getLogger(__name__).info("no speed history: %s", reason)


def setup(app):
    """Connect the functions above; Sphinx calls this."""
    app.connect("build-finished", write_history)
    app.connect("builder-inited", write_helps)
    app.connect("autodoc-skip-member", skip_fields)
