"""What the tests of tables, figures and pages share."""

import pytest
from made_rows import family
from reading import PAPER

from repro.results.published import PublishedNumbers, read_published
from repro.results.row import Row


@pytest.fixture(scope="session")
def published() -> PublishedNumbers:
    return read_published(PAPER)


@pytest.fixture
def seeds() -> list[Row]:
    """A parent and a binary child of two seeds: 15 and 17 right of 20 become 14 and 17."""
    return [*family(fp32=15, binary=14), *family(seed=1, fp32=17, binary=17)]
