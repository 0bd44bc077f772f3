"""When a certificate by ACME is renewed, and how long to wait after a failure."""

import datetime
from pathlib import Path

import pytest
import trustme

from pillarbox.certs.renewal import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    Failures,
    acme_paths,
    forget_failures,
    is_due,
    note_failure,
    pause_s,
    read_failures,
    wanted_names,
)
from pillarbox.config.schema import Config, Tls

START = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "tls").mkdir()
    return Config("mail.example.org", str(tmp_path), tls=Tls(acme=True))


def write(config: Config, *names: str) -> None:
    issued = trustme.CA().issue_cert(*names, not_before=START, not_after=START + 90 * DAY)
    octets = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    acme_paths(config)[0].write_bytes(octets)


def test_it_is_due_at_two_thirds_of_the_lifetime(config: Config) -> None:
    assert is_due(config, START), "there is none"
    write(config, "mail.example.org")
    assert not is_due(config, START + 59 * DAY)
    assert is_due(config, START + 60 * DAY)


def test_it_is_due_when_other_names_are_wanted_or_it_cannot_be_read(config: Config) -> None:
    write(config, "mail.example.org", "imap.example.org")
    assert is_due(config, START)
    config.tls.acme_names = ["IMAP.example.org", "mail.example.org.", "mail.example.org"]
    assert wanted_names(config) == ("imap.example.org", "mail.example.org")
    assert not is_due(config, START)
    acme_paths(config)[0].write_text("damaged")
    assert is_due(config, START)


def test_the_pause_doubles_with_each_failure_and_has_an_end() -> None:
    pauses = [pause_s(Failures(count)) for count in range(12)]
    assert pauses[:4] == [0, FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pause_s(Failures(10**6)) == LONGEST_PAUSE_S


def test_failures_outlive_the_server(config: Config) -> None:
    assert read_failures(config) == Failures()
    note_failure(config, "no such host", 100.0)
    note_failure(config, "not ours", 200.0)
    assert read_failures(config) == Failures(2, 200.0, "not ours")
    forget_failures(config)
    forget_failures(config)
    assert read_failures(config) == Failures()
    (config.data_path / "tls" / "acme-failures.json").write_text("[]")
    assert read_failures(config) == Failures()
