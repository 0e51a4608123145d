"""supsup-dashboard: runs of supsup-train, looked at in a browser."""
