"""Sphinx settings of the manual: Markdown, no web fonts, nothing fetched."""

from unetpp_monai import __version__

project = "unetpp_monai"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "UNet++ for MONAI"
myst_heading_anchors = 3
# pygments knows no snakemake; links that leave docs/ lead to files of the checkout; test_readme checks them
suppress_warnings = ["misc.highlighting_failure", "myst.xref_missing"]
