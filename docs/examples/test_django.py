"""Django's SMTP backend: what the application sends really crosses the wire."""

import smtplib

import pytest

pytest.importorskip("django", reason="Django is not installed")

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, send_mail

if not settings.configured:  # a project has its settings already
    settings.configure(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend")


@pytest.fixture
def outgoing(mailserver, monkeypatch):
    """Django sends by this server."""
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_HOST", mailserver.host)
    monkeypatch.setattr(settings, "EMAIL_PORT", mailserver.ports["smtp"])
    return mailserver


def test_a_newsletter_has_text_and_html(outgoing):
    mail = EmailMultiAlternatives("News", "plain", "shop@example.test", ["reader@home.example"])
    mail.attach_alternative("<p>rich</p>", "text/html")
    assert mail.send() == 1
    got = outgoing.wait_for(to="reader@home.example")
    assert got.get_body(["html"]).get_content().strip() == "<p>rich</p>"


def test_a_full_disk_is_an_error_of_the_application(outgoing):
    with outgoing.disk_full(), pytest.raises(smtplib.SMTPDataError, match="452"):
        send_mail("News", "text", "shop@example.test", ["bob@example.test"])
