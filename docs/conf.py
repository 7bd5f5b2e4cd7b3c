"""Sphinx settings of the manual: Markdown, no web fonts, nothing fetched."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from unetpp_monai import __version__

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))  # scripts beside this file are no package

import reference  # noqa: E402

project = "unetpp_monai"
html_show_copyright = False
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
smartquotes = False  # options begin with two dashes
html_theme = "furo"
html_title = "UNet++ for MONAI"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False  # pages link to nothing outside of the site
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # pygments knows no snakemake


def name_files_of_the_checkout(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to model cards to their pages; of other Markdown outside of docs/ show the path."""
    for link in list(doctree.findall(pending_xref)):
        path = (DOCS / f"{link['reftarget']}.md").resolve()
        card = DOCS / "generated" / f"card_{path.parent.parent.name}.md"
        if link.get("refdomain") == "doc" and path.name == "README.md" and card.is_file():
            link["reftarget"] = f"generated/{card.stem}"
        elif link.get("refdomain") == "doc" and path.is_file() and not path.is_relative_to(DOCS):
            name = path.relative_to(DOCS.parent).as_posix()
            text = [] if link.astext() == name else [nodes.Text(f"{link.astext()}, ")]
            link.replace_self([*text, nodes.literal(name, name)])


def setup(app: Sphinx) -> None:
    """Write the generated pages, and mend links once a page is read."""
    reference.write(DOCS / "generated")
    app.connect("doctree-read", name_files_of_the_checkout)
