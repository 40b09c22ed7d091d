"""What the framework's own tests share."""

import pytest


@pytest.fixture(scope="session")
def check_contract() -> bool:
    """The resources of these tests declare what they send only where a test is about that."""
    return False
