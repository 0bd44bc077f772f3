"""The pytest plugin: the fixtures `mailserver` and `async_mailserver`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pillarbox.testing.asynchronous import AsyncMailServer
    from pillarbox.testing.server import MailServer


@pytest.fixture
def mailserver() -> "Iterator[MailServer]":
    """A `pillarbox.testing.MailServer`, fresh for each test, with alice@example.test and bob@example.test."""
    from pillarbox.testing.server import MailServer

    with MailServer() as server:
        yield server


@pytest.fixture
def async_mailserver(mailserver: "MailServer") -> "AsyncMailServer":
    """The same for tests that are coroutines, whatever plugin runs these."""
    from pillarbox.testing.asynchronous import AsyncMailServer

    return AsyncMailServer(mailserver)
