"""A real mail server for tests: `MailServer`, `AsyncMailServer`, and the pytest fixtures `mailserver` and
`async_mailserver` (docs/testing.md).

With Pillarbox installed, pytest knows the fixture:

    def test_the_order_is_confirmed_by_mail(mailserver):
        shop.order("tea", mail_host=mailserver.host, mail_port=mailserver.ports["smtp"])
        mail = mailserver.wait_for(to="alice@example.test", subject="Your order")
        assert "tea" in mail.get_content()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pillarbox.testing.asynchronous import AsyncMailServer
    from pillarbox.testing.server import MailServer

__all__ = ["AsyncMailServer", "MailServer"]


def __getattr__(name: str) -> Any:
    """Imported late: pytest loads this package in every project where Pillarbox is installed."""
    if name == "MailServer":
        from pillarbox.testing.server import MailServer

        return MailServer
    if name == "AsyncMailServer":
        from pillarbox.testing.asynchronous import AsyncMailServer

        return AsyncMailServer
    raise AttributeError(name)
