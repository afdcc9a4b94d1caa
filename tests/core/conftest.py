import pytest
from workshop import Workshop


@pytest.fixture
def workshop(tmp_path):
    """Runs that share data and the weights of a chain."""
    return Workshop(tmp_path)
