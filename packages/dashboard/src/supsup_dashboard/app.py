"""The pages of the dashboard and the way between them."""

import streamlit as st

from supsup_dashboard.pages import runs


def main() -> None:
    """Show the page that was chosen."""
    st.set_page_config(page_title="SupSup", layout="wide")
    st.navigation([st.Page(runs.show, title="Runs", url_path="runs", default=True)]).run()
