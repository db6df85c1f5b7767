"""Sphinx settings of the documentation; `docs/_ext` makes the pages that are read off the code."""

import logging
import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# A pattern of the table of contents may stand for no page; Sphinx has no setting that allows that.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda message: getattr(message, "subtype", "") != "empty_glob"
)

project = "muse_studio"
author = "The muse_studio developers"
version = release = installed("muse-studio")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "muse_pages"]
exclude_patterns = ["_ext", "figures", "**.ipynb_checkpoints"]

myst_heading_anchors = 3
nb_execution_mode = "off"  # lessons are shown with the pictures that they were saved with; a test runs them
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autosummary_generate = False

html_theme = "furo"
html_title = "muse_studio"
html_copy_source = False
html_show_sphinx = False
