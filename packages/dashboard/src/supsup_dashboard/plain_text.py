"""Text of somebody else's, where Streamlit would read Markdown."""

import re

_MARKS = re.compile(r"[\\`*_\[\]$<>~#]|:(?=[A-Za-z])")


def plain(text: str) -> str:
    """Return Markdown that shows a text as it is: names, and what exceptions of other code say, mark nothing up."""
    return _MARKS.sub(r"\\\g<0>", text)
