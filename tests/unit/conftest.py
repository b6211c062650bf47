"""Lines for files, for the tests of both of their ends."""

import pytest
from tests.support.freight_lines import open_desk


@pytest.fixture
def desk(tmp_path):
    """The stage's end of a line to a desk."""
    with open_desk(tmp_path) as line:
        yield line


@pytest.fixture
def disk(tmp_path):
    """The stage's own."""
    return tmp_path / "disk"
