"""Text of somebody else's, where Streamlit would read Markdown."""

import re

_MARKS = re.compile(r"[\\`*_\[\]$<>~#|]|:(?=[\w+-]+[:\[])|&(?=[#\w]+;)")
_ITEMS = re.compile(r"^(\s*\d*)([-+.)])(?=\s)", re.MULTILINE)  # of lists, at the beginning of a line


def plain(text: str) -> str:
    """Return Markdown that shows a text as it is: names, and what exceptions of other code say, mark nothing up."""
    return _ITEMS.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", text))
