"""smtplib against the test server: submission with a login, and a refusal that the program has to handle."""

import smtplib
from email.message import EmailMessage


def send_invoice(host, port, login, context, to):
    """The program under test: True if the mail was taken."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = login[0], to, "Your invoice"
    message.set_content("Please pay.")
    with smtplib.SMTP(host, port) as client:
        client.starttls(context=context)
        client.login(*login)
        try:
            client.send_message(message)
        except smtplib.SMTPRecipientsRefused:
            return False
    return True


def test_an_invoice_goes_out(mailserver):
    alice = ("alice@example.test", mailserver.accounts["alice@example.test"])
    where = ("localhost", mailserver.ports["submission"], alice, mailserver.client_context())
    assert send_invoice(*where, to="customer@shop.example")
    assert mailserver.wait_for(to="customer@shop.example")["Subject"] == "Your invoice"


def test_an_unknown_customer_is_noticed(mailserver):
    alice = ("alice@example.test", mailserver.accounts["alice@example.test"])
    where = ("localhost", mailserver.ports["submission"], alice, mailserver.client_context())
    with mailserver.faults.refuse("*@shop.example", "550 5.1.1 No such user"):
        assert not send_invoice(*where, to="customer@shop.example")
    assert mailserver.outbox == []
