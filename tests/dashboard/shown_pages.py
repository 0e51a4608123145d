"""Pages under test, with the runs that were chosen."""


def shown(page, chosen):
    """Run a page's script with these runs chosen, and return it."""
    if chosen:
        page.query_params["run"] = list(chosen)
    page.run()
    assert not page.exception
    return page
