"""`pillarbox sendmail`: the options that programs use, and the exit codes that they look at."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.cli import main
from pillarbox.cli import sendmail as module

Run = Callable[..., tuple[int, str, str]]


class _Stream(io.TextIOWrapper):
    """Standard input or output with a buffer of octets."""

    def __init__(self, octets: bytes = b"") -> None:
        super().__init__(io.BytesIO(octets), encoding="utf-8", write_through=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')

    def run_command(*arguments: str, typed: bytes = b"") -> tuple[int, str, str]:
        """Exit code, what SMTP said on standard output, and what was said to people."""
        output = _Stream()
        monkeypatch.setattr(sys, "argv", ["pillarbox", "sendmail", *arguments])
        monkeypatch.setattr(sys, "stdin", _Stream(typed))
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as end:
            main()
        output.flush()
        said = output.buffer.getvalue().decode()  # type: ignore[attr-defined]
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return int(end.value.code or 0), said, shown.err

    return run_command


def left() -> list[tuple[dict[str, object], bytes]]:
    """What stands in the drop folder: envelope (without what is empty) and message."""
    found = []
    for path in sorted(Path("data/drop").glob("*.mail")):
        line, _, message = path.read_bytes().partition(b"\n")
        envelope = {name: value for name, value in json.loads(line).items() if value}
        found.append((envelope, message))
    return found


def test_the_plain_call(run: Run) -> None:
    text = b"From x Thu Nov 26\nSubject: hi\n\nline\n.\nnot this\n"
    assert run("bob", "Carol <carol@example.org>,dave@x.example", typed=text) == (0, "", "")
    ((envelope, message),) = left()
    assert envelope == {"recipients": ["bob", "carol@example.org", "dave@x.example"]}
    assert message == b"Subject: hi\r\n\r\nline\r\n"


@pytest.mark.parametrize("option", ["-i", "-oi"])
def test_a_dot_may_be_text(run: Run, option: str) -> None:
    assert run(option, "bob", typed=b"\n.\r\nmore")[0] == 0
    assert left()[0][1] == b"\r\n.\r\nmore\r\n"


def test_recipients_of_the_header_besides_those_named(run: Run) -> None:
    header = (
        b'To: "A, B" <a@x.example>,\n  team: b@x.example, c@x.example;\nCc: a@x.example\nBCC: d\n\n'
    )
    assert run("-ti", "e@x.example", typed=header)[0] == 0
    recipients = ["e@x.example", "a@x.example", "b@x.example", "c@x.example", "d"]
    assert left()[0][0]["recipients"] == recipients


def test_resent_fields_go_before_the_usual_ones(run: Run) -> None:
    assert run("-t", typed=b"To: a@x.example\nResent-To: b@x.example\n\n")[0] == 0
    assert left()[0][0]["recipients"] == ["b@x.example"]


def test_the_classic_options(run: Run) -> None:
    options = ("-f", "<me@x.example>", "-Fann", "-N", "success,delay", "-Rhdrs", "-V", "id=1")
    ignored = ("-oem", "-O", "x=y", "-B8BITMIME", "-q30m", "-q", "-v", "-Am", "-G", "-h5", "-bm")
    assert run(*options, *ignored, "--", "bob", typed=b"x\n") == (0, "", "")
    ((envelope, _),) = left()
    assert envelope == {
        "recipients": ["bob"],
        "sender": "me@x.example",
        "name": "ann",
        "notify": "SUCCESS,DELAY",
        "ret": "HDRS",
        "envid": "id+3D1",
    }


def test_without_a_queue_there_is_nothing_to_retry(run: Run) -> None:
    assert run("-q") == (0, "", "")


def test_the_null_path(run: Run) -> None:
    assert run("-f", "<>", "bob", typed=b"x\n")[0] == 0
    line = next(Path("data/drop").glob("*.mail")).read_bytes().partition(b"\n")[0]
    assert json.loads(line)["sender"] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 64, "no recipients on the command line"),
        (("-t",), 64, "no recipients in To, Cc or Bcc"),
        (("-Z", "bob"), 64, "-Z"),
        (("-f",), 64, "-f"),
        (("-bt", "bob"), 64, "-bt is not supported"),
        (("-N", "never,delay", "bob"), 64, "never stands alone"),
        (("-N", "always", "bob"), 64, "never, success, failure, delay"),
        (("-R", "all", "bob"), 64, "full, hdrs"),
        (("-f", "a b c", "bob"), 64, "is not an address"),
        (("@",), 64, "is not an address"),
        (("--config", "none.toml", "bob"), 78, "there is no configuration file none.toml"),
        (("-bp",), 78, "there is no queue yet"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code_of_sysexits(
    run: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, _, err = run(*arguments, typed=b"Subject: x\n\n")
    assert found == code
    assert err.startswith("sendmail: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_message_over_the_limit_is_refused(run: Run) -> None:
    with Path("pillarbox.toml").open("a") as file:
        file.write("[smtp]\nmax_message_size = 70000\n")
    assert run("bob", typed=b"x\n" * 40_000)[0] == 65
    assert not Path("data/drop").exists()


def test_only_trusted_users_name_a_sender(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getuid", lambda: 4711)
    Path("data").mkdir()
    os.chown("data", os.geteuid(), -1)
    if os.geteuid() == 4711:
        pytest.skip("the user of this test is the one that it needs to be another")
    code, _, err = run("-f", "a@x.example", "bob", typed=b"x\n")
    assert code == 77
    assert "[sendmail] trusted_users" in err


def test_smtp_on_standard_input(run: Run) -> None:
    session = (
        b"EHLO me\nMAIL FROM:<a@x.example>\nRCPT TO:<b@y.example>\r\nRCPT TO:<nonsense\n"
        b"DATA\nSubject: x\n\n..dot\n.\nQUIT\n"
    )
    code, said, _ = run("-bs", typed=session)
    assert code == 0
    codes = [line[:3] for line in said.splitlines() if line[3:4] == " "]
    assert codes == ["220", "250", "250", "250", "501", "354", "250", "221"]
    ((envelope, message),) = left()
    assert envelope == {"recipients": ["b@y.example"], "sender": "a@x.example"}
    assert message == b"Subject: x\r\n\r\n.dot\r\n"


def test_smtp_ends_with_the_input(run: Run) -> None:
    code, said, _ = run("-bs", typed=b"EHLO me\nMAIL FROM:<a@x.example>\n")
    assert code == 0
    assert said.splitlines()[-1] == "250 2.1.0 Ok"
    assert left() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_of_the_machine_may_send_but_not_read(tmp_path_factory) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        config = folder / "pillarbox.toml"
        config.write_text(
            f'hostname = "m.example.org"\ndata_dir = "data"\n[sendmail]\ndrop_dir = "{folder}/drop"\n'
        )
        config.chmod(0o644)
        module.drop.make_folder(folder / "drop", shared=True)
        code = (
            "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "from pillarbox.cli.sendmail import sendmail\n"
            f"sys.argv = ['pillarbox', '--config', '{config}', 'bob']\n"
            "sendmail(standalone_mode=True)\n"
        )
        # What it imports must be readable for that user: so it is imported before, by root.
        loader = "import pillarbox.cli.sendmail, encodings.idna, getopt, pwd\n" + code
        done = subprocess.run(
            [sys.executable, "-c", loader], input=b"Subject: x\n\n", capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        (path,) = (folder / "drop").glob("*.mail")
        assert path.stat().st_uid == 65534
        assert path.stat().st_mode & 0o777 == 0o640
        listing = subprocess.run(
            [sys.executable, "-c", f"import os; os.setuid(65534); os.listdir('{folder}/drop')"],
            capture_output=True,
            timeout=60,
        )
        assert b"PermissionError" in listing.stderr
