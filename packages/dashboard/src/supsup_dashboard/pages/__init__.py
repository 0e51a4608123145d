"""One module a page; each shows itself by `show()`."""
