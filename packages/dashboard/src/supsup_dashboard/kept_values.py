"""What a page's widgets held when it was left: Streamlit forgets a widget as soon as a page is shown without it."""

from typing import Any, TypeVar

import streamlit as st

_HELD = "held values"
_BEGUN = "begun values"

_Value = TypeVar("_Value")


def beginning(key: str, default: _Value) -> _Value:
    """Return what a widget begins with: what it held last, or else its default; the same for as long as it is drawn."""
    begun: dict[str, Any] = st.session_state.setdefault(_BEGUN, {})
    if key not in st.session_state or key not in begun:
        begun[key] = st.session_state.get(_HELD, {}).get(key, default)
    value: _Value = begun[key]
    return value


def held(key: str, value: _Value) -> _Value:
    """Keep what a widget holds, for the next time that its page is shown, and return it."""
    st.session_state.setdefault(_HELD, {})[key] = value
    return value
