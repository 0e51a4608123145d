"""A figure on a page, with its numbers to take along."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st


def show_chart(figure: go.Figure, rows: pd.DataFrame, name: str, about: str) -> None:
    """Show a figure, with a button for its image (above it, on the right) and one for its numbers as CSV.

    Args:
        figure: to show; it takes the page's theme, light or dark.
        rows: what it is drawn from; shares are fractions, but for columns whose names say that they are in percent.
        name: of the files, unlike any other on the page: letters, digits and hyphens.
        about: what there is to see, for readers who cannot.
    """
    config: Mapping[str, Any] = {
        "displaylogo": False,
        "toImageButtonOptions": {"format": "svg", "filename": name},
    }
    st.plotly_chart(figure, key=f"chart-{name}", config=dict(config), alt=about)
    st.download_button(
        "Numbers as CSV",
        lambda: rows.to_csv(index=False).encode(),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"csv-{name}",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
    )
