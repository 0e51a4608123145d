"""The dashboard's entry point: streamlit run apps/dashboard.py."""

from supsup_dashboard.app import main

main()
