"""Builds the documentation: ``make docs``."""

project = "Headwater"
author = "The Headwater maintainers"
html_title = "Headwater"

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
exclude_patterns: list[str] = []
