"""What several of these tests begin with."""

from __future__ import annotations

import pytest

from tests.helpers.own_repository import Repository


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Repository:
    """A stranger's, with tests that ask for ``update_benchmark``."""
    return Repository(pytester)
