"""Transports have sockets in the folders of these tests."""

import pytest
from tests.support.folders import short_folder


@pytest.fixture
def tmp_path():
    """Short, in place of pytest's, which has the test's name in it."""
    with short_folder() as folder:
        yield folder
