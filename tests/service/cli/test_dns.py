"""The records of a domain, and its keys, on the command line."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "doctor"))

from small_dns import SmallDns

from pillarbox.cli import main

Run = Callable[..., tuple[int, str, str]]

CONFIGURATION = """
hostname = "mail.example.org"
data_dir = "data"
[listen]
smtp = ["0.0.0.0:25"]
submission = ["127.0.0.1:587"]
submissions = ["0.0.0.0:465", "[::]:465"]
imaps = ["[::]:9993"]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command where example.org is a domain: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text(CONFIGURATION)

    def run_command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pillarbox", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert "PRIVATE" not in shown.out + shown.err
        return int(end.value.code or 0), shown.out, shown.err

    assert run_command("domain", "add", "example.org")[0] == 0
    return run_command


def zone_of(text: str) -> dict[tuple[str, str], list[str]]:
    """(name, type) -> values, as dnspython reads a zone file."""
    zone = dns.zone.from_text(text, "example.org", check_origin=False)
    return {
        (str(name), dns.rdatatype.to_text(found.rdtype)): [str(value) for value in found]
        for name, found in zone.iterate_rdatasets()
    }


def dkim_records(run: Run) -> dict[str, str]:
    """Name -> note."""
    records = json.loads(run("dns", "show", "example.org", "--json")[1])
    return {each["name"]: each["note"] for each in records if "_domainkey" in each["name"]}


def test_dns_show_prints_a_zone_file(run: Run) -> None:
    code, out, _ = run("dns", "show", "Example.ORG")
    assert code == 0
    zone = zone_of(out)
    assert zone["@", "MX"] == ["10 mail"]
    assert zone["@", "TXT"] == ['"v=spf1 mx -all"']
    assert zone["mail", "TXT"] == ['"v=spf1 a -all"']
    assert zone["_dmarc", "TXT"][0].startswith('"v=DMARC1; p=none;')
    assert len([name for name, _ in zone if name.endswith("._domainkey")]) == 2


def test_srv_records_are_for_what_others_can_reach(run: Run) -> None:
    zone = zone_of(run("dns", "show", "example.org")[1])
    assert {name: value for (name, kind), value in zone.items() if kind == "SRV"} == {
        "_submissions._tcp": ["0 1 465 mail"],
        "_imaps._tcp": ["0 1 9993 mail"],
    }


def test_the_texts_of_the_zone_file_and_of_json_are_the_same(run: Run) -> None:
    zone = zone_of(run("dns", "show", "example.org")[1])
    for record in json.loads(run("dns", "show", "example.org", "--json")[1]):
        if record["type"] == "TXT":
            name = record["name"].removesuffix(".example.org.").replace("example.org.", "@")
            (value,) = zone[name, "TXT"]
            assert value.replace('" "', "").strip('"') == record["value"]
            assert all(len(part) <= 257 for part in value.split('" "'))


def test_a_smarthost_is_not_forbidden_by_spf(run: Run) -> None:
    Path("pillarbox.toml").write_text(
        CONFIGURATION + '[outbound]\nsmarthost = "smtp.provider.example:465"\n'
    )
    _, out, _ = run("dns", "show", "example.org")
    assert zone_of(out)["@", "TXT"] == ['"v=spf1 mx ~all"']
    assert "provider of smtp.provider.example" in out


def test_an_unknown_domain_is_told_in_one_line(run: Run) -> None:
    for command in (("dns", "show"), ("domain", "rotate-keys")):
        code, out, err = run(*command, "elsewhere.example")
        assert (code, out) == (1, "")
        assert err == "pillarbox: there is no domain elsewhere.example\n"


@pytest.fixture
def net() -> Iterator[SmallDns]:
    server = SmallDns()
    with Path("pillarbox.toml").open("a") as file:
        file.write(f'[dns]\nservers = ["{server.address}"]\n')
    yield server
    server.close()


def publish(net: SmallDns, printed: str) -> None:
    for (name, kind), values in zone_of(printed).items():
        net.zone[f"{name}.example.org", kind] = list(values)


def test_keys_whose_records_are_missing_or_others_do_not_sign(run: Run, net: SmallDns) -> None:
    printed = run("domain", "rotate-keys", "example.org")[1]
    activate = ("domain", "rotate-keys", "example.org", "--activate")
    code, out, err = run(*activate)
    assert (code, out, err.count("is missing")) == (1, "", 2)
    assert "--force" in err
    publish(net, printed)
    rsa = next(name for name, _ in net.zone if name.startswith("rsa"))
    net.zone[rsa, "TXT"] = ['"v=DKIM1; k=rsa; p=AAAA"']
    code, out, err = run(*activate)
    assert (code, out) == (1, "")
    assert f"{rsa}: the record has another public key" in err
    assert "ed25519" not in err
    assert not any("remove it after" in note for note in dkim_records(run).values())
    assert run(*activate, "--force")[0] == 0
    assert run("domain", "rotate-keys", "example.org", "--force")[0] == 2


def test_keys_sign_with_a_note_where_the_dns_does_not_answer(run: Run, net: SmallDns) -> None:
    for (name, kind), _ in zone_of(run("domain", "rotate-keys", "example.org")[1]).items():
        net.zone[f"{name}.example.org", kind] = "SERVFAIL"
    code, _, err = run("domain", "rotate-keys", "example.org", "--activate")
    assert (code, err.count("Note: "), err.count("the DNS gives no answer")) == (0, 2, 2)


def test_keys_are_rotated_in_two_steps(run: Run, net: SmallDns) -> None:
    old = set(dkim_records(run))
    code, out, _ = run("domain", "rotate-keys", "example.org")
    assert code == 0
    assert "--activate" in out
    assert run("domain", "rotate-keys", "example.org")[1] == out  # the same keys again
    new = {name for name, note in dkim_records(run).items() if "not used until" in note}
    assert len(new) == 2
    assert all(name in out for name in new)
    publish(net, out)
    code, out, err = run("domain", "rotate-keys", "example.org", "--activate")
    assert (code, err) == (0, "")
    assert "for a week" in out
    notes = dkim_records(run)
    assert all("it signs" in notes[name] for name in new)
    assert all("remove it after" in notes[name] for name in old)
    assert run("domain", "rotate-keys", "example.org", "--activate")[0] == 1


def test_a_domain_that_has_no_keys_gets_keys_that_sign_at_once(run: Run) -> None:
    from pillarbox.store.directory import Directory

    directory = Directory(Path("data/directory.db"), clock=lambda: 1)
    directory.add_domain("old.example")
    directory.close()
    assert "domain rotate-keys old.example" in run("dns", "show", "old.example")[1]
    assert "signed from now on" in run("domain", "rotate-keys", "old.example")[1]
    assert "it signs" in run("dns", "show", "old.example")[1]
