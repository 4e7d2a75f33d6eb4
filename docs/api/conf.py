"""How sphinx makes the API reference of the docstrings: ``make docs``."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "chordtx"
author = "the chordtx authors"
copyright = author
version = release = version_of("chordtx")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "chordtx"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
nitpicky = False

# The docstrings put several short fields on one line; sphinx wants each on one of its own.
_NEXT_FIELD = re.compile(r"(?<=[.;:]) +(?=:(?:param|ivar|returns|raises)\b)")


def _split_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [part for line in lines for part in _NEXT_FIELD.split(line)]


def setup(app: Any) -> None:
    """Sphinx's."""
    app.connect("autodoc-process-docstring", _split_fields)
