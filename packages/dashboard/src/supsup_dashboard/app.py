"""The pages of the dashboard and the way between them."""

import threading

import numpy as np
import streamlit as st
from PIL import Image
from supsup_core.packed_kernels import compile_ahead
from supsup_methods.errors import UsageError

from supsup_dashboard.data_root import data_root
from supsup_dashboard.pages import accuracy, launch, masks, reproduction, runs, storage, task_inference

_MASK = (0b01111110, 0b11000011, 0b11000000, 0b01111100, 0b00001110, 0b00000011, 0b11000011, 0b01111110)


def main() -> None:
    """Show the page that was chosen."""
    st.set_page_config(page_title="SupSup", page_icon=_icon(), layout="wide")
    work = [
        st.Page(runs.show, title="Runs", url_path="runs", icon=":material/list:", default=True),
        st.Page(launch.show, title="Launch", url_path="launch", icon=":material/play_arrow:"),
    ]
    results = [
        st.Page(accuracy.show, title="Accuracy", url_path="accuracy", icon=":material/show_chart:"),
        st.Page(task_inference.show, title="Task inference", url_path="task-inference", icon=":material/search:"),
        st.Page(masks.show, title="Masks", url_path="masks", icon=":material/grid_on:"),
        st.Page(storage.show, title="Bytes", url_path="bytes", icon=":material/database:"),
        st.Page(reproduction.show, title="Reproduction", url_path="reproduction", icon=":material/article:"),
    ]
    page = st.navigation({"Work": work, "Results": results})
    try:
        data_root()
    except UsageError as error:
        st.error(str(error))
        return
    page.run()
    _compile_ahead()


@st.cache_resource(show_spinner=False)
def _compile_ahead() -> None:
    """Once for all sessions, and while somebody reads the first page, get ready for searches over large banks."""
    threading.Thread(target=compile_ahead, daemon=True).start()


def _icon() -> Image.Image:
    """Return a mask of 8 × 8 weights, blue where it keeps one, as the tab's icon."""
    bits = np.unpackbits(np.array(_MASK, dtype=np.uint8)[:, None], axis=1).astype(bool)
    pixels = bits[..., None] * np.array([0, 114, 178, 255], dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
