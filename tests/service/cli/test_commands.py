"""The administration commands: what they do, print and return."""

import asyncio
import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import apsw
import click
import msgspec
import pytest
from tests.commands import Run, runner

from pillarbox.cli.main import pillarbox
from pillarbox.config.load import load_config
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config
from pillarbox.core.dates import pack_date
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store


class Typed(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with a configuration: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    return runner(monkeypatch, capsys)


@pytest.fixture
def with_alice(run: Run) -> Run:
    assert run("domain", "add", "example.org")[0] == 0
    added = run("account", "add", "alice@example.org", "--password-stdin", typed="long enough\n")
    assert added == (0, "The account alice@example.org was added.\n", "")
    return run


def test_domains(run: Run) -> None:
    code, out, _ = run("domain", "add", "Example.ORG.")
    assert code == 0
    assert "The domain example.org was added." in out
    assert "first account" in out
    assert json.loads(run("domain", "list", "--json")[1]) == [
        {"domain": "example.org", "accounts": 0}
    ]
    assert run("domain", "add", "example.org") == (
        1,
        "",
        "pillarbox: the domain example.org exists already\n",
    )
    assert run("domain", "remove", "example.org")[0] == 0
    assert json.loads(run("domain", "list", "--json")[1]) == []


def test_a_domain_can_be_given_its_postmaster(run: Run) -> None:
    _, out, _ = run("domain", "add", "example.org", "--postmaster", "alice@example.org")
    assert "Mail for postmaster@example.org goes to alice@example.org." in out
    assert json.loads(run("alias", "list", "--json")[1]) == [
        {"alias": "postmaster@example.org", "target": "alice@example.org"}
    ]


def test_a_domain_with_accounts_stays(with_alice: Run) -> None:
    assert with_alice("domain", "remove", "example.org")[0] == 1


def test_accounts_are_listed(with_alice: Run) -> None:
    (listed,) = json.loads(with_alice("account", "list", "--json")[1])
    assert listed["address"] == "alice@example.org"
    assert listed["enabled"] is True
    assert with_alice("account", "disable", "alice@example.org")[0] == 0
    assert "no" in with_alice("account", "list", "example.org")[1].split()
    assert with_alice("account", "enable", "alice@example.org")[0] == 0


def test_accounts_are_removed_after_a_question(with_alice: Run) -> None:
    code, _, err = with_alice("account", "remove", "alice@example.org", typed=Typed("n\n"))
    assert code == 1
    assert "nothing was removed" in err
    assert with_alice("account", "remove", "alice@example.org", typed=Typed("y\n"))[0] == 0
    assert json.loads(with_alice("account", "list", "--json")[1]) == []


def test_aliases_that_lead_nowhere_without_an_account_are_named(with_alice: Run) -> None:
    with_alice("alias", "add", "info@example.org", "alice@example.org")
    with_alice("alias", "add", "old@example.org", "gone@example.org")
    code, _, err = with_alice("account", "remove", "alice@example.org", "--yes")
    told = "info@example.org goes to alice@example.org, which is no account and no alias"
    assert (code, err) == (0, f"Note: {told}\n")


def test_a_domain_that_others_cannot_find_is_noted(run: Run) -> None:
    for domain in ("localhost", "bad_domain"):
        code, _, err = run("domain", "add", domain)
        assert (code, err.startswith(f"Note: other hosts can find no domain {domain};")) == (
            0,
            True,
        )
    assert run("domain", "add", "example.org")[2] == ""


def test_an_empty_standard_input_has_no_password(with_alice: Run) -> None:
    code, _, err = with_alice("account", "passwd", "alice@example.org", "--password-stdin")
    assert (code, err) == (1, "pillarbox: there is no password: standard input was empty\n")


def test_without_a_terminal_a_removal_needs_yes(with_alice: Run) -> None:
    code, _, err = with_alice("account", "remove", "alice@example.org")
    assert (code, err.count("\n")) == (1, 1)
    assert "--yes" in err
    assert with_alice("account", "remove", "alice@example.org", "--yes")[0] == 0


def test_only_domains_of_ours_have_accounts_to_list(with_alice: Run) -> None:
    for domain in ("other.org", "x@y", "bad domain"):
        code, out, err = with_alice("account", "list", domain)
        assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("domain", ["1.2.3.4", "[1.2.3.4]", "[x", "a@b.org", "-x.org", ""])
def test_what_is_no_domain_is_not_added(run: Run, domain: str) -> None:
    code, out, err = run("domain", "add", "--", domain)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_wrong_postmaster_is_asked_for_again(run: Run) -> None:
    _, out, err = run("domain", "add", "example.org", typed=Typed("nonsense\na@example.org\n"))
    assert "not a mail address" in err
    assert "Mail for postmaster@example.org goes to a@example.org." in out


def test_tables_in_a_pipe_have_no_blanks_at_the_end(with_alice: Run) -> None:
    _, out, _ = with_alice("account", "list")
    assert out.splitlines()[0].split() == ["address", "enabled", "created"]
    assert all(line == line.rstrip() for line in out.splitlines())


def test_who_shares_a_name_with_a_new_account_is_told(with_alice: Run) -> None:
    assert with_alice("domain", "add", "example.com")[0] == 0
    typed = "long enough\n"
    _, out, note = with_alice("account", "add", "al@example.com", "--password-stdin", typed=typed)
    assert (out, note) == ("The account al@example.com was added.\n", "")
    code, out, note = with_alice(
        "account", "add", "alice@example.com", "--password-stdin", typed=typed
    )
    assert (code, out) == (0, "The account alice@example.com was added.\n")
    assert note == (
        "Note: several accounts are called alice now, so each of them logs in by its whole address"
        " only.\n"
    )


@pytest.mark.parametrize(
    ("address", "password", "reason"),
    [
        ("alice@example.org", "long enough", "exists already"),
        ("bob@elsewhere.org", "long enough", "pillarbox domain add elsewhere.org"),
        ("bob", "long enough", "not a mail address"),
        ("bob@example.org", "short", "at least 8 characters"),
        ("b..b@example.org", "long enough", "cannot stand before the @"),
        ("b@b@example.org", "long enough", "cannot stand before the @"),
        ('"b"@example.org', "long enough", "cannot stand before the @"),
        ("m\u00a0ller@example.org", "long enough", "cannot stand before the @"),
    ],
)
def test_accounts_that_cannot_be_added(
    with_alice: Run, address: str, password: str, reason: str
) -> None:
    code, out, err = with_alice("account", "add", address, "--password-stdin", typed=password)
    assert (code, out) == (1, "")
    assert reason in err
    assert err.startswith("pillarbox: ")
    assert err.count("\n") == 1


def test_passwords_need_a_terminal_or_stdin(with_alice: Run) -> None:
    code, _, err = with_alice("account", "passwd", "alice@example.org")
    assert code == 1
    assert "--password-stdin" in err


def test_aliases(with_alice: Run) -> None:
    assert with_alice("alias", "add", "Info@example.org", "alice@example.org") == (
        0,
        "Mail for info@example.org goes to alice@example.org.\n",
        "",
    )
    assert with_alice("alias", "add", "@example.org", "nobody@example.org")[0] == 0
    assert "info@example.org" in with_alice("alias", "list")[1]
    assert with_alice("alias", "remove", "info@example.org", "x@example.org")[0] == 1
    assert with_alice("alias", "remove", "info@example.org", "alice@example.org")[0] == 0
    assert with_alice("alias", "remove", "@example.org")[0] == 0
    assert with_alice("alias", "remove", "@example.org")[0] == 1


def test_config_check_names_aliases_that_lead_nowhere(with_alice: Run) -> None:
    with_alice("alias", "add", "a@example.org", "nobody@example.org")
    with_alice("alias", "add", "b@example.org", "carol@elsewhere.org")
    code, out, _ = with_alice("config", "check")
    assert code == 0
    assert "a@example.org goes to nobody@example.org, which is no account" in out
    assert "carol@elsewhere.org" not in out
    assert out.endswith("The configuration can be used.\n")


def test_config_stands_before_or_after_the_command(with_alice: Run) -> None:
    Path("pillarbox.toml").rename("other.toml")
    assert with_alice("account", "list")[0] == 1
    for arguments in (
        ("--config", "other.toml", "account", "list"),
        ("account", "list", "--config", "other.toml"),
        ("account", "list", "--config=other.toml"),
        ("account", "--config=other.toml", "list"),
    ):
        assert "alice@example.org" in with_alice(*arguments)[1]


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    for arguments in (("nonsense",), ("account", "add"), ("serve", "--fast"), ("account",), ()):
        assert run(*arguments)[0] == 2, arguments


def test_wrong_configurations_are_told_line_by_line(run: Run) -> None:
    Path("pillarbox.toml").write_text(
        'hostname = "no name"\ndata_dir = "data"\n[listen]\nimap = ["nonsense"]\n'
    )
    code, out, err = run("config", "check")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert "pillarbox.toml:4: listen.imap: " in err
    code, out, again = run("config", "check", "--json")
    assert (code, again) == (1, err)
    assert [each["line"] for each in json.loads(out)["problems"]] == [1, 4]


@pytest.mark.parametrize(
    ("directory", "place", "said"),
    [
        (
            'kind = "python"\nclass = "no_such_office:Office"',
            "directory.class",
            "no_such_office; install it for",
        ),
        (
            'kind = "ldap"\nurl = "ldaps://ldap.example.org"\nbase = "o=x"\nfilter = "(mail={user}"',
            "directory.filter",
            "close each bracket",
        ),
    ],
)
def test_config_check_tells_who_could_verify_no_password(
    run: Run, directory: str, place: str, said: str
) -> None:
    with Path("pillarbox.toml").open("a") as file:
        file.write(f"[directory]\n{directory}\n")
    code, out, err = run("config", "check")
    (line,) = err.splitlines()
    assert (code, out) == (1, "")
    assert line.startswith(f"pillarbox: {place}: ")
    assert said in line
    code, out, again = run("config", "check", "--json")
    assert (code, again) == (1, err)
    (problem,) = json.loads(out)["problems"]
    assert problem["setting"] == place
    assert said in problem["problem"]


@pytest.mark.parametrize(
    ("directory", "who"),
    [
        (
            'kind = "ldap"\nurl = "ldaps://ldap.example.org"\nbase = "o=x"',
            "the LDAP server ldaps://ldap.example.org",
        ),
        (
            'kind = "http"\nurl = "https://us:secret@login.example.org/check?key=secret"',
            "the web service https://login.example.org/check",
        ),
        ('kind = "python"\nclass = "office:Office"', "the class office:Office"),
    ],
)
def test_where_others_verify_passwords_accounts_have_none(
    with_alice: Run, directory: str, who: str
) -> None:
    with Path("pillarbox.toml").open("a") as file:
        file.write(f"[directory]\n{directory}\n")
    assert with_alice("account", "add", "dora@example.org") == (
        0,
        f"The account dora@example.org was added, without a password: {who} verifies those.\n",
        "",
    )
    for command, address in (("passwd", "alice"), ("passwd", "dora"), ("add", "cem")):
        code, out, err = with_alice(
            "account", command, f"{address}@example.org", "--password-stdin", typed="long enough\n"
        )
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"pillarbox: {who} verifies passwords: ")
    assert "cem" not in with_alice("account", "list")[1]
    code, _, err = with_alice("account", "passwd", "nobody@example.org")
    assert (code, "verifies" in err) == (1, False)


def test_config_check_tells_of_a_data_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    config = Path("pillarbox.toml")
    config.write_text(re.sub("(?m)^data_dir.*$", 'data_dir = "elsewhere"', config.read_text()))
    code, out, _ = run("config", "check")
    assert code == 0
    assert "elsewhere does not exist: the server makes it, with no domain and no mail in it" in out


def test_config_check_reads_the_certificate(run: Run) -> None:
    config = Path("pillarbox.toml")
    config.write_text(
        config.read_text() + '[tls]\ncertificate = "pillarbox.toml"\nkey = "pillarbox.toml"\n'
    )
    code, out, err = run("config", "check")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "it is not PEM" in err


def test_a_backup_tells_how_much_of_one_kind_is_missing(with_alice: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "tls"
    folder.mkdir()
    opens = Path.open

    def denied(path: Path, *arguments, **named):
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *arguments, **named)

    for number in range(12):
        (folder / f"{number:02}.pem").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", denied)
        code, out, err = with_alice("backup", "saved", "--json")
    assert code == 1
    assert len(json.loads(out)["left_out"]) == 12
    *lines, last = err.splitlines()
    assert [line.partition("not saved: ")[2].split()[0][-6:] for line in lines] == [
        f"{number:02}.pem" for number in range(10)
    ]
    assert last.endswith("... and 2 more files; --json names all")


def test_a_damaged_directory_is_named(with_alice: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "directory.db").write_bytes(b"not a database" * 100)
    for command in (("account", "list"), ("serve",), ("config", "check")):
        code, _, err = with_alice(*command)
        (line,) = [line for line in err.splitlines() if line.startswith("pillarbox: ")]
        assert code == 1
        assert "data/directory.db is damaged; stop the server, move directory.db away" in line


def test_identities(with_alice: Run) -> None:
    run = with_alice
    assert run("identity", "add", "Alice@example.org", "@Example.COM") == (
        0,
        "alice@example.org may send as @example.com.\n",
        "",
    )
    code, _, err = run("identity", "add", "alice@example.org", "@example.com")
    assert (code, err) == (
        1,
        "pillarbox: alice@example.org may send as @example.com already\n",
    )
    assert run("identity", "add", "nobody@example.org", "a@b.example")[0] == 1
    assert run("identity", "add", "alice@example.org", "sales")[0] == 1
    run("identity", "add", "alice@example.org", "sales@far.example")
    assert json.loads(run("identity", "list", "alice@example.org", "--json")[1]) == [
        {"account": "alice@example.org", "sender": "@example.com"},
        {"account": "alice@example.org", "sender": "sales@far.example"},
    ]
    assert run("identity", "remove", "alice@example.org", "@example.com")[0] == 0
    assert run("identity", "remove", "alice@example.org", "@example.com")[0] == 1
    assert len(run("identity", "list")[1].splitlines()) == 2
    run("account", "remove", "alice@example.org", "--yes")
    assert json.loads(run("identity", "list", "--json")[1]) == []


def test_limits_of_an_account(with_alice: Run) -> None:
    def limits(*options: str) -> list[tuple[int, str]]:
        code, out, _ = with_alice("account", "limits", "alice@example.org", "--json", *options)
        assert code == 0
        return [(row["recipients"], row["set_by"]) for row in json.loads(out)]

    assert limits() == [(500, "default"), (2000, "default")]
    assert limits("--daily", "0") == [(500, "default"), (0, "of the account")]
    assert limits("--hourly", "9") == [(9, "of the account"), (0, "of the account")]
    assert limits("--daily", "default") == [(9, "of the account"), (2000, "default")]
    assert with_alice("account", "limits", "alice@example.org", "--daily", "-1")[0] == 2
    assert with_alice("account", "limits", "bob@example.org")[0] == 1


def test_check_before_the_first_start(with_alice: Run) -> None:
    code, _, err = with_alice("check")
    assert code == 1
    assert "no server has run" in err


def test_the_example_configuration_shows_all_settings_with_their_defaults(
    run: Run, tmp_path: Path
) -> None:
    code, out, _ = run("config", "example")
    assert (code, out) == (0, EXAMPLE)
    (tmp_path / "example.toml").write_text(out)
    shown = load_config(tmp_path / "example.toml")
    defaults = Config(shown.hostname, shown.data_dir, listen=shown.listen)
    assert shown == defaults
    for name in Config.__struct_fields__:
        value = getattr(defaults, name)
        names = value.__struct_encode_fields__ if isinstance(value, msgspec.Struct) else ()
        for each in (name, *names):
            assert each in EXAMPLE


def _all_commands(prefix: tuple[str, ...] = (), group: object = pillarbox) -> list[tuple[str, ...]]:
    found = [prefix]
    for name, command in getattr(group, "commands", {}).items():
        found += _all_commands((*prefix, name), command)
    return found


@pytest.mark.parametrize("command", _all_commands())
def test_every_help_has_an_example(run: Run, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Example: pillarbox" in " ".join(out.split())


@pytest.mark.parametrize("command", _all_commands())
def test_no_command_takes_a_secret_as_an_argument(command: tuple[str, ...]) -> None:
    """Everybody on the machine sees arguments (`ps`): a secret comes from a prompt, from stdin or from a file."""
    found: click.Command = pillarbox
    for name in command:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    for parameter in found.params:
        words = {word for name in parameter.opts for word in re.split("[^a-z]+", name.lower())}
        if words & {"password", "passwd", "secret", "token", "key", "credential"}:
            is_flag = isinstance(parameter, click.Option) and parameter.is_flag
            assert is_flag or "file" in words or isinstance(parameter.type, click.Path), parameter


def test_quotas_of_accounts_and_domains(with_alice: Run) -> None:
    def quota(*arguments: str) -> list[tuple[object, ...]]:
        code, out, _ = with_alice(*arguments, "--json")
        assert code == 0
        return [(row["limit"], row["set_by"], row.get("used")) for row in json.loads(out)]

    alice = ("account", "quota", "alice@example.org")
    assert quota(*alice) == [(None, "default", 0), (None, "default", 0)]
    domain = ("domain", "quota", "example.org")
    assert quota(*domain, "--storage", "1G") == [(1 << 30, "domain", None), (None, "default", None)]
    assert quota(*alice) == [(1 << 30, "domain", 0), (None, "default", 0)]
    assert quota(*alice, "--storage", "500M", "--messages", "9") == [
        (500 << 20, "account", 0),
        (9, "account", 0),
    ]
    assert quota(*alice, "--storage", "0")[0] == (None, "account", 0)
    assert quota(*alice, "--storage", "default")[0] == (1 << 30, "domain", 0)
    code, out, _ = with_alice(*alice)
    assert code == 0
    assert "1G" in out
    for bad in ("much", "5", "-1"):
        assert with_alice(*alice, "--storage", bad)[0] == 2
    assert with_alice(*alice, "--messages", "1K")[0] == 2
    assert with_alice("account", "quota", "bob@example.org")[0] == 1
    assert with_alice("domain", "quota", "example.com")[0] == 1
    assert quota(*domain, "--storage", "0") == [(None, "default", None), (None, "default", None)]


def test_status_of_a_stopped_server_is_one_line(with_alice) -> None:
    code, out, err = with_alice("status")
    assert code == 1
    assert not out
    assert re.fullmatch(r"pillarbox: no server runs on .+/data\n", err)


def test_app_passwords_are_made_listed_and_revoked(
    with_alice: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_alice
    alice = "alice@example.org"
    command = ("account", "app-password")
    code, password, _ = run(*command, "add", alice, "phone", "--only", "imap", "--for", "90d")
    assert code == 0
    assert re.fullmatch(r"([a-z2-9]{5}-){3}[a-z2-9]{5}\n", password)
    assert run(*command, "add", alice, "phone")[0] == 1
    (row,) = json.loads(run(*command, "list", alice, "--json")[1])
    assert (row["name"], row["counts_for"], row["last_used"]) == ("phone", "imap", None)
    assert row["expires"]
    assert row["expired"] is False
    shown = run(*command, "list", alice)[1]
    assert password.strip() not in shown
    assert "(expired)" not in shown
    later = time.time() + 91 * 86400
    monkeypatch.setattr("pillarbox.cli.login.time.time", lambda: later)
    (row,) = json.loads(run(*command, "list", alice, "--json")[1])
    assert row["expired"] is True
    assert "UTC (expired)" in run(*command, "list", alice)[1]
    assert run(*command, "revoke", alice, "phone")[0] == 0
    assert run(*command, "revoke", alice, "phone")[0] == 1


def test_supporters_and_logins_are_shown(with_alice: Run) -> None:
    run = with_alice
    assert run("account", "support", "add", "alice@example.org")[0] == 0
    shown = run("account", "support", "list", "--json")[1]
    assert json.loads(shown) == [{"address": "alice@example.org"}]
    assert run("account", "support", "remove", "alice@example.org")[0] == 0
    assert json.loads(run("account", "support", "list", "--json")[1]) == []
    assert json.loads(run("account", "logins", "alice@example.org", "--json")[1]) == []
    assert run("account", "logins", "bob@example.org")[0] == 1


def test_networks_are_banned_for_a_time_or_for_good(run: Run) -> None:
    assert run("ban", "add", "192.0.2.7", "--for", "2d", "--reason", "guesses")[0] == 0
    assert run("ban", "add", "2001:db8::/32") == (0, "2001:db8::/32 is banned for good.\n", "")
    rows = json.loads(run("ban", "list", "--json")[1])
    assert [(row["network"], row["reason"]) for row in rows] == [
        ("192.0.2.7/32", "guesses"),
        ("2001:db8::/32", ""),
    ]
    assert rows[0]["until"]
    assert rows[1]["until"] is None
    assert run("ban", "remove", "192.0.2.7")[0] == 0
    assert run("ban", "remove", "192.0.2.7")[0] == 1
    for network in ("0.0.0.0/0", "::ffff:0:0/96"):
        assert run("ban", "add", network)[0] == 1
    assert run("ban", "add", "example.org")[0] == 2


def test_a_mapped_address_is_banned_as_the_ipv4_address_that_it_is(run: Run) -> None:
    """As which its connections count."""
    for network, canonical in (
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::FFFF:c612:0/111", "198.18.0.0/15"),
        ("::fffe:192.0.2.7", "::fffe:c000:207/128"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ):
        assert run("ban", "add", network) == (0, f"{canonical} is banned for good.\n", "")
        assert run("ban", "remove", network) == (0, f"{canonical} is no longer banned.\n", "")


def test_a_ban_that_does_nothing_or_turns_this_machine_away_says_so(run: Run) -> None:
    with Path("pillarbox.toml").open("a") as file:
        file.write('[security]\nnever_throttled = ["192.0.2.0/24", "2001:db8::7"]\n')
    for network, words in (
        ("192.0.2.7", "Note: this ban has no effect: security.never_throttled has 192.0.2.0/24"),
        ("2001:db8::/32", "Note: it has no effect on 2001:db8::7/128: "),
        ("127.0.0.1", "Note: that is this machine: "),
    ):
        code, out, _ = run("ban", "add", network)
        assert (code, words in out) == (0, True)
    assert "Note" not in run("ban", "add", "198.51.100.7")[1]


def test_aliases_that_lead_in_a_circle_or_nowhere_are_told_at_once(with_alice: Run) -> None:
    assert with_alice("alias", "add", "one@example.org", "two@example.org")[2].startswith("Note: ")
    code, _, err = with_alice("alias", "add", "two@example.org", "one@example.org")
    assert (code, err) == (
        0,
        "Note: two@example.org goes round in a circle: its mail is put off (451)\n",
    )
    with_alice("alias", "add", "info@example.org", "alice@example.org")
    code, out, _ = with_alice("config", "check", "--json")
    notes = [note for note in json.loads(out)["notes"] if "circle" in note]
    assert [note.partition(" ")[0] for note in notes] == ["one@example.org", "two@example.org"]
    assert "info@" not in out


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('[smtp]\nmax_message_size = "10M"', "must be a whole number, without quotes"),
        ('[directory]\nkind = "maybe"', 'must be "built-in" or "ldap" or "http" or "python"'),
        ('[outbound.routes."x.example"]\ntls = "no"', 'must be "offered" or "verified" or "never"'),
        ('[outbound]\ngive_up_after = "1h"', "must be less than give_up_after"),
        ('[listen]\nimaps = ["127.0.0.1"]', 'must look like "127.0.0.1:993" or "[::]:993"'),
    ],
)
def test_wrong_values_are_told_with_the_right_ones(run: Run, setting: str, words: str) -> None:
    with Path("pillarbox.toml").open("a") as file:
        file.write(setting + "\n")
    code, _, err = run("config", "check")
    assert code == 1
    assert words in err


def test_what_this_machine_has_not_is_noted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pillarbox.toml").write_text(
        'hostname = "mail.example.org"\ndata_dir = "/proc/data"\n[listen]\n'
        'smtp = ["192.0.2.1:25", "127.0.0.1:2525"]\nimap = ["192.0.2.1:143"]\n'
    )
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    monkeypatch.setattr(os, "access", lambda path, *_, **__: str(path) != "/proc")
    code, out, _ = run("config", "check")
    assert code == 0
    assert "Note: listen.smtp, imap: this machine has no address 192.0.2.1 now\n" in out
    assert "/proc/data is missing, and this user may not make it in /proc\n" in out
    assert "127.0.0.1" not in out


def test_files_of_the_configuration_are_needed_by_the_server_only(run: Run) -> None:
    """A certificate that is gone for a moment must not keep anybody from looking at the accounts."""
    text = Path("pillarbox.toml").read_text() + '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    Path("pillarbox.toml").write_text(text)
    assert run("domain", "add", "example.org")[0] == 0
    assert run("account", "list")[0] == 0
    for command in (("config", "check"), ("serve",)):
        code, _, err = run(*command)
        assert code == 1
        assert "tls.certificate: " in err
        assert "c.pem cannot be read: No such file or directory" in err


def test_a_data_folder_that_cannot_be_made_is_named(run: Run) -> None:
    Path("pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "/proc/data"\n')
    for command in (("domain", "list"), ("serve",)):
        code, _, err = run(*command)
        assert (code, err.startswith("pillarbox: data_dir: /proc/data cannot be made")) == (1, True)


def test_a_folder_is_no_configuration_and_is_called_so(run: Run) -> None:
    assert "is a folder; name the configuration file in it" in run("--config", "/tmp", "status")[2]


def test_a_time_that_is_over_at_once_is_refused(with_alice: Run) -> None:
    for command in (
        ("account", "app-password", "add", "alice@example.org", "phone", "--for", "0d"),
        ("ban", "add", "192.0.2.7", "--for", "0s"),
    ):
        code, out, err = with_alice(*command)
        assert (code, out) == (2, "")
        assert "is no time at all" in err
    assert with_alice("ban", "add", "192.0.2.7", "--for", "soon")[0] == 2
    command = ("account", "app-password", "add", "alice@example.org", "phone", "--for", "90")
    assert with_alice(*command)[0] == 2
    assert json.loads(with_alice("ban", "list", "--json")[1]) == []


def test_the_reason_of_a_ban_cannot_write_over_the_list(run: Run) -> None:
    assert run("ban", "add", "192.0.2.7", "--reason", "a\n\x1b[31m")[0] == 1
    assert json.loads(run("ban", "list", "--json")[1]) == []


def test_a_ban_that_replaces_another_says_so(run: Run) -> None:
    run("ban", "add", "198.51.100.0/24", "--for", "7d", "--reason", "guesses")
    _, out, _ = run("ban", "add", "198.51.100.7/24")
    assert "is banned for good.\nThat replaces a ban until" in out
    assert "(guesses)" in out
    assert "for good" in run("ban", "list")[1]
    assert json.loads(run("ban", "list", "--json")[1])[0]["until"] is None


def test_a_server_that_has_run_is_checked_also_without_its_folder_of_mail_files(
    with_mail: Run, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "data" / "accounts")
    os.truncate(tmp_path / "data" / "lock", 0)
    assert "no server has run" not in with_mail("check")[2]


def test_check_says_that_there_is_no_domain(run: Run, tmp_path: Path) -> None:
    """A server that was started in an empty folder leaves this."""
    assert run("account", "list")[0] == 0
    (tmp_path / "data" / "accounts").mkdir()
    code, out, _ = run("check")
    assert code == 1
    assert f"there is no domain in {tmp_path / 'data'}: mount its disk or mend data_dir" in out


def test_check_prints_json(with_alice: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "accounts").mkdir()
    code, out, err = with_alice("check", "--json")
    assert (code, err) == (1, "pillarbox: 1 problem found\n")
    (problem,) = json.loads(out)["problems"]
    assert problem.startswith("queue.db is missing")


@pytest.fixture
def with_mail(with_alice: Run, tmp_path: Path) -> Run:
    """Two messages in INBOX, one of which tries to move the cursor."""

    async def fill() -> None:
        store = Store(tmp_path / "data")
        for subject in (b"Hello", b"=?utf-8?q?a=1b[2Jb?="):
            octets = b"From: Ann <ann@x.example>\r\nSubject: %b\r\n\r\nText\r\n" % subject
            await store.append(1, Append(1, make_content(octets), pack_date(1_790_000_000)))
        await store.close()

    asyncio.run(fill())
    return with_alice


def test_mail_is_asked_in_sql(with_mail: Run) -> None:
    select = "SELECT uid, subject, seen FROM messages ORDER BY uid"
    assert with_mail("sql", "alice@example.org", select) == (
        0,
        "uid  subject  seen\n1    hello    0\n2    a [2jb   0\n",
        "",
    )
    rows = json.loads(with_mail("sql", "alice@example.org", select, "--json")[1])
    assert rows[1] == {"uid": 2, "subject": "a\x1b[2jb", "seen": 0}
    assert with_mail("sql", "alice@example.org", select + " LIMIT 1", "--csv")[1] == (
        "uid,subject,seen\n1,hello,0\n"
    )
    headers = with_mail("sql", "alice@example.org", "SELECT header FROM headers", "--json")[1]
    assert json.loads(headers)[0]["header"].endswith("Subject: Hello\r\n\r\n")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT * FROM message", "only SELECT from the views"),
        ("SELECT (SELECT address FROM x) FROM messages", "no such table"),
        ("SELECT nope FROM x", "the views are mailboxes, messages, headers, history"),
        ("SELECT sql FROM sqlite_schema", "only SELECT from the views"),
        ("SELECT name FROM pragma_table_info('message')", "only SELECT from the views"),
        ("PRAGMA journal_mode = delete", "only SELECT from the views"),
        ("ATTACH 'x' AS y", "only SELECT from the views"),
        ("DELETE FROM messages", "SQL: cannot modify"),
        ("DELETE FROM message", "only SELECT from the views"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELECT 1; DELETE FROM message", "only SELECT from the views"),
        ("SELECT nope FROM messages", "SQL: no such column"),
        ("", "asks for nothing"),
        ("SELECT 1; SELECT 2", "more than one SELECT"),
    ],
)
def test_sql_reads_the_published_views_only(with_mail: Run, statement: str, words: str) -> None:
    code, _, err = with_mail("sql", "alice@example.org", statement)
    assert (code, err.count("\n")) == (1, 1)
    assert words in err


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT uid, thread_id FROM messages WHERE uid = 99",
        "SELECT 1 AS uid, 2 AS thread_id FROM history",
    ],
)
def test_sql_shows_a_result_without_rows_as_one(with_mail: Run, statement: str) -> None:
    account = "alice@example.org"
    assert with_mail("sql", account, statement) == (0, "uid  thread_id\n", "")
    assert with_mail("sql", account, statement, "--csv") == (0, "uid,thread_id\n", "")
    assert with_mail("sql", account, statement, "--json") == (0, "[]\n", "")


def test_sql_takes_a_comment_and_an_end_of_statement(with_mail: Run) -> None:
    select = "SELECT max(uid) AS last FROM messages; -- that is all"
    assert with_mail("sql", "alice@example.org", select) == (0, "last\n2\n", "")


def test_sql_before_any_mail(with_alice: Run) -> None:
    assert "has had no mail yet" in with_alice("sql", "alice@example.org", "SELECT 1")[2]
    assert "no account" in with_alice("sql", "bob@example.org", "SELECT 1")[2]


def test_a_repair_that_finds_all_again_says_so_and_ends_with_0(with_alice: Run) -> None:
    async def fill() -> None:
        store = Store(Path("data"))
        try:
            for number in range(44):
                octets = b"Subject: %d\r\n\r\n%b\r\n" % (number, b"text " * 300)
                await store.append(1, Append(1, make_content(octets), 0))
        finally:
            await store.close()

    asyncio.run(fill())
    path = next(Path("data/accounts").glob("*/*.db"))
    damage_root(path, "octets")
    code, out, err = with_alice("check", "--repair")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:-1] == [
        "alice@example.org: repaired; 44 messages in place.",
        "alice@example.org: no message is lost.",
    ]
    damage_root(path, "message")  # which has all its rows
    code, out, err = with_alice("check", "--repair")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:-1] == [
        "alice@example.org: repaired; 44 messages in place.",
        "alice@example.org: 44 messages of these lost flags and time of arrival.",
        "alice@example.org: no message is lost.",
    ]
    damage_root(path, "message")
    damage_root(path, "message_content")
    code, out, err = with_alice("check", "--repair", "--json")
    assert (code, err) == (0, "")
    (shown,) = json.loads(out)["repaired"]
    assert (shown["saved"], shown["recovered"], shown["lost"]) == (0, 44, {})
    assert (shown["unflagged"], shown["may_be_old"], shown["uncounted"]) == (0, False, False)


def damage_root(path: Path, table: str) -> None:
    connection = apsw.Connection(str(path))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    (page,) = connection.execute(sql, (table,)).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def test_a_lost_mail_file_is_told_by_every_command_that_wants_it(
    with_mail: Run, tmp_path: Path
) -> None:
    account_path(tmp_path / "data" / "accounts", 1).unlink()
    deed = "then run `pillarbox restore BACKUP alice@example.org`"
    code, out, err = with_mail("sql", "alice@example.org", "SELECT uid FROM messages")
    assert (code, out) == (1, "")
    assert "the mail file of alice@example.org is missing: put the file back, or stop" in err
    assert deed in err
    code, out, _ = with_mail("check")
    assert code == 1
    assert deed in out
    for name, which in (("one", ("--account", "alice@example.org")), ("all", ())):
        code, out, err = with_mail("backup", name, *which)
        assert code == 1
        assert " 0 of 1 account, " in out
        assert (
            "alice@example.org: the mail file is missing, so nothing of it was saved: put the"
            in err
        )
        assert deed in err
    code, _, err = with_mail("account", "quota", "alice@example.org")
    assert code == 1
    assert deed in err
    code, out, err = with_mail("check", "--repair")
    assert (code, err) == (1, "pillarbox: 1 mail file could not be repaired\n")
    assert "alice@example.org: not repaired: put the file back" in out
    code, out, _ = with_mail("check", "--repair", "alice@example.org")
    assert code == 1  # what was in it is lost
    assert "nobody knows how many messages are lost" in out
    assert "kept as" not in out
    assert with_mail("check")[0] == 0


def test_where_all_mail_files_are_gone_no_command_says_that_nothing_is_wrong(
    with_mail: Run, tmp_path: Path
) -> None:
    (tmp_path / "data" / "accounts").rename(tmp_path / "elsewhere")
    select = ("sql", "alice@example.org", "SELECT uid FROM messages")
    for command in (("check",), ("check", "--repair"), ("backup", "saved"), select):
        code, out, err = with_mail(*command)
        assert (code, out) == (1, "")
        assert "and none is there now; mount its file system, or move them back" in err
        assert "pillarbox check --repair ACCOUNT..." in err
    assert with_mail("check", "--repair", "alice@example.org")[0] == 1  # what was in it is lost
    assert with_mail("check")[1:] == ("The store is in order.\n", "")


def test_check_and_repair_say_the_same_of_a_lost_directory(with_mail: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "directory.db").unlink()
    text = "directory.db is missing or empty, though there are accounts in"
    assert text in with_mail("check")[1]
    for command in (("check", "--repair"), ("backup", "saved")):
        code, _, err = with_mail(*command)
        assert code == 1
        assert text in err


def test_check_tells_of_a_whole_restore_that_was_interrupted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / ".restoring").mkdir(parents=True)
    for command in (("check",), ("check", "--repair"), ("backup", "saved")):
        code, _, err = run(*command)
        assert code == 1
        assert "a backup was being restored" in err
        assert "repeat it" in err


def test_a_repair_says_what_it_does_not_mend(with_mail: Run, tmp_path: Path) -> None:
    queue = tmp_path / "data" / "queue.db"
    queue.write_bytes(b"not a database" * 100)
    deed = "stop the server and move queue.db away, with queue.db-wal and queue.db-shm if they are there"
    code, out, err = with_mail("check", "--repair")
    assert (code, err) == (1, "pillarbox: 1 problem left\n")
    assert "queue.db is damaged" in out
    assert deed in out
    (problem,) = json.loads(with_mail("check", "--repair", "--json")[1])["problems"]
    assert deed in problem
    code, _, err = with_mail("serve")
    assert code == 1
    assert deed in err
    queue.unlink()
    assert with_mail("check", "--repair")[1] == "No mail file needs a repair.\n"
