import pytest
from jaxtyping import config


@pytest.fixture
def as_users_call():
    """Switch off the type checks that tests run under: users have none, and what they pass must be refused all the same."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
