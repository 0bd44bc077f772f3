"""For all tests."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A test that runs a command in this process leaves no log handler of its own behind."""
    logger = logging.getLogger("pillarbox")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    source = logging._srcfile
    extras = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate
    logging._srcfile = source
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = extras


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that two processes end together."""
    items.sort(key=lambda item: "robust" not in item.path.parts)
