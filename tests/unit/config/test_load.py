"""The configuration file: every error in one clear line, with its place."""

import os
from pathlib import Path

import pytest

from pillarbox.config.load import find_config, load_config
from pillarbox.core.errors import Refused

GOOD = 'hostname = "mail.example.org"\ndata_dir = "data"\n'


def load(folder: Path, text: str):
    path = folder / "pillarbox.toml"
    path.write_text(text)
    return load_config(path)


def test_the_smallest_file_has_defaults_and_absolute_paths(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.data_path == tmp_path / "data"
    assert config.smtp.max_message_size == 10_240_000
    assert config.listen.smtp == []
    assert not config.security.allow_cleartext_login
    assert config.imap.hierarchy_separator == "/"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hostname = ", "not valid TOML"),
        ("hostname = mail.x", 'column 12); text needs quotes: hostname = "mail.x"'),
        ("a = 1\ndata_dir = /var/lib # x", ': data_dir = "/var/lib"'),
        ('hostname = "mail.x', "Unterminated string (at end of document)"),
        ("log_format = Yes", "column 14); write true or false"),
        ("hostname = 1" + "0" * 5000, "not valid TOML"),
        ("hostname = " + "[" * 5000, "not valid TOML"),
        ('data_dir = "x"', "hostname"),
        (GOOD + "color = 1", "color"),
        (GOOD + '[smtp]\nmax_message_size = "big"', "smtp.max_message_size"),
        (GOOD + "[smtp]\nmax_message_size = 10", "65536"),
        (GOOD + '[listen]\nsmtp = ["25"]', "listen.smtp"),
        (GOOD + '[listen]\nimap = ["::1:143"]', "brackets"),
        (GOOD + '[tls]\ncertificate = "c.pem"', "go together"),
        (GOOD + '[tls]\ncertificate = "c.pem"\nkey = "k.pem"', "cannot be read"),
        (
            GOOD + '[tls]\ncertificates = [{ certificate = "c.pem", key = "k.pem" }]',
            "tls.certificates[0].certificate: ",
        ),
        (GOOD + '[tls]\ncertificates = [{ certificate = "c.pem" }]', "key"),
        (GOOD + '[tls]\nacme = true\nacme_directory = "http://ca.example/dir"', "https URL"),
        (GOOD + '[tls]\nacme = true\nacme_contact = "mailto:a@b"', "acme_contact"),
        (GOOD + '[tls]\nacme = true\nacme_names = ["*.example.org"]', "dns-01"),
        (GOOD + '[tls]\nacme = true\nacme_ca_file = "none.pem"', "acme_ca_file"),
        (
            GOOD + 'user = "nobody"\n[tls]\nacme = true\nacme_ca_file = "none.pem"',
            "none.pem cannot be read",
        ),
        (GOOD + 'user = "nobody"\n[tls]\nclient_ca = "none.pem"', "none.pem cannot be read"),
        (GOOD + '[oauth]\njwks = "."', "is no regular file"),
        (GOOD + '[oauth]\njwks = "pillarbox.toml"', "pillarbox.toml must be a JWKS: a JSON object"),
        (
            GOOD
            + '[outbound]\nsmarthost = "a.test:587"\nsmarthost_username = "u"\n'
            + 'smarthost_password_file = "pillarbox.toml"',
            "pillarbox.toml must be one line of UTF-8",
        ),
        (GOOD + '[tls]\nclient_ca = "pillarbox.toml"', "pillarbox.toml must be PEM with"),
        (GOOD + '[tls]\nacme = true\nacme_ca_file = "pillarbox.toml"', "must be PEM with"),
        (GOOD + '[directory]\nca_file = "pillarbox.toml"', "directory.ca_file: /"),
        (GOOD + '[tls]\nacme = true\nacme_directory = "https://ca:0/"', "must have a port"),
        (GOOD + '[tls]\nacme = true\nacme_names = ["-x-"]', "acme_names"),
        (GOOD + '[tls]\nacme = true\nacme_listen = ["80"]', "acme_listen"),
        (GOOD + '[tls]\nacme = true\nacme_challenge = "dns-01"', "acme_hook"),
        (GOOD + '[tls]\nacme = true\nacme_hook = "a \'b"', "acme_hook"),
        (GOOD + '[tls]\nacme = true\nacme_dns_wait = "1h"', "acme_dns_wait"),
        (
            GOOD + '[tls]\nacme = true\ncertificate = "pillarbox.toml"\nkey = "pillarbox.toml"',
            "put yours into certificates",
        ),
        (GOOD + '[imap]\nhierarchy_separator = "#"', "hierarchy_separator"),
        (GOOD.replace("mail.example.org", "-x-"), "hostname"),
        (GOOD + "[listen]\nftp = []", "ftp"),
        (GOOD + '[listen]\nmetrics = ["9090"]', "listen.metrics"),
        (GOOD + '[listen]\nimap = ["[::1]:9"]\nmetrics = ["[::1]:9"]', "taken by imap"),
        (GOOD + 'log_format = "xml"', 'log_format: must be "text" or "json"'),
        (GOOD + '[outbound]\nsmarthost = "relay"', "outbound.smarthost"),
        (GOOD + '[outbound]\nsmarthost_username = "me"', "go together"),
        (
            GOOD + '[outbound]\nsmarthost_username = "me"\nsmarthost_password_file = "none"',
            "cannot be read",
        ),
        (GOOD + '[outbound]\ngive_up_after = "5 days"', "outbound.give_up_after"),
        (GOOD + '[outbound]\ngive_up_after = "0s"', "some time"),
        (GOOD + '[outbound]\ncopy_bounces_to = "postmaster"', "is not a mail address"),
        (GOOD + '[dns]\nservers = ["dns.example:53"]', "dns.servers"),
        (GOOD + '[doctor]\nblock_lists = ["no zone"]', "is not a zone"),
        (GOOD + '[listen]\nimap = ["localhost:143"]', "not an IP address"),
        (GOOD + '[listen]\nimap = ["[::1]:143"]\npop3 = ["[::1]:143"]', "taken by imap"),
        (GOOD.replace('"data"', '""'), "data_dir"),
        (GOOD + '[smtp]\ntrusted_networks = ["192.0.2.1/24"]', "smtp.trusted_networks"),
        (GOOD + '[smtp]\ntrusted_networks = ["::/0"]', "all of the Internet"),
        (GOOD + '[security]\nproxy_protocol_from = ["lb"]', "security.proxy_protocol_from"),
        (GOOD + '[outbound.routes."-x"]\nhost = "a:25"', "is not a domain"),
        (GOOD + '[outbound.routes."x.example"]\nhost = "a"', 'routes."x.example".host'),
        (GOOD + '[outbound.routes."x.example"]\nprotocol = "lmtp"', "name the host"),
        (GOOD + '[outbound.routes."x.example"]\nprotocol = "uucp"', "protocol"),
        (
            GOOD + '[outbound.routes."x.example"]\nhost = "a:25"\nusername = "me"',
            "verified TLS only",
        ),
        (
            GOOD
            + '[outbound.routes."x.example"]\nhost="a:25"\ntls="verified"\npassword_file="none"',
            "go together",
        ),
        (GOOD + '[listen]\nlmtp = ["127.0.0.1:25"]', "LMTP must not use port 25"),
        (GOOD + '[smtp]\nxclient_from = ["0.0.0.0/0"]', "smtp.xclient_from"),
        (GOOD + '[smtp]\ngreeting_delay = "1d"', "smtp.greeting_delay: must be 60s or less"),
        (GOOD + '[smtp]\nerror_delay = "x"', "smtp.error_delay"),
        (GOOD.replace('"data"', '"pillarbox.toml"'), "not a folder"),
        (GOOD.replace("mail.example.org", "1.2.3.4"), "hostname"),
        (GOOD.replace("mail.example.org", "[1.2.3.4]"), "hostname"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, text)
    assert words in caught.value.text
    assert all(line.startswith(str(tmp_path)) for line in caught.value.text.splitlines())


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, GOOD + 'workers = -1\n[listen]\nsmtp = ["x"]\npop3 = ["y"]')
    assert len(caught.value.text.splitlines()) == 3


def test_the_file_is_found_by_option_then_environment_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(GOOD)
    assert find_config("a.toml", {"PILLARBOX_CONFIG": "b.toml"}) == Path("a.toml")
    assert find_config(None, {"PILLARBOX_CONFIG": "b.toml"}) == Path("b.toml")
    with pytest.raises(Refused, match="config example"):
        find_config(None, {})
    (tmp_path / "pillarbox.toml").write_text(GOOD)
    assert find_config(None, {}) == Path("pillarbox.toml")
    with pytest.raises(Refused, match="no configuration file"):
        find_config("missing.toml", {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_takes_no_configuration_of_another_user_that_just_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names commands that root would run, and places where root would write."""
    monkeypatch.chdir(tmp_path)
    path = Path("pillarbox.toml")
    path.write_text(GOOD)
    assert find_config(None, {}) == path
    os.chown(path, 12345, 12345)
    with pytest.raises(Refused, match="another user's, and you are root"):
        find_config(None, {})
    assert find_config("pillarbox.toml", {}) == path


def test_the_same_fault_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, GOOD + "[listen]\nsmtp = [" + '"0:25", ' * 1000 + "]")
    first, second = caught.value.text.splitlines()
    assert first.endswith('listen.smtp: "0" is not an IP address')
    assert second.endswith("listen.smtp: 0:25 is taken by smtp already")
