"""What users store: a type for the values that come out of the dict."""

from __future__ import annotations

from typing import Any

#: None, bool, int, float, str, bytes, or a list or dict of such. It is ``Any``, so that who has stored
#: something can use it as what it is. What goes into the dict is taken as ``object``.
Value = Any
