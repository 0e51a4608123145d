"""Parts of the page Task inference."""
