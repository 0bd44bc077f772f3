"""`pillarbox quickstart`: from nothing to a server, and never over what is there."""

import imaplib
import os
import pty
import pwd
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from tests.ports import free_port

from pillarbox.app import unit_files
from pillarbox.cli import main
from pillarbox.config.load import load_config

quickstart_module = import_module("pillarbox.cli.quickstart")
"""By its name: the package has a command of that name, too."""

OPTIONS = (
    *("--hostname", "Mail.Example.ORG", "--domain", "example.org", "--account", "alice"),
    *("--user", "", "--no-service", "--data-dir", "data"),
)


def quickstart(
    folder: Path, *options: str, typed: str = "long enough\n", config: str = "new.toml"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pillarbox", "--config", config, "quickstart", *options],
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
    )


def pillarbox(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", "--config", "new.toml", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_by_options(tmp_path: Path) -> None:
    done = quickstart(tmp_path, *OPTIONS, "--password-stdin")
    assert done.returncode == 0, done.stderr
    config = load_config(tmp_path / "new.toml")
    assert (config.hostname, config.user) == ("mail.example.org", "")
    assert config.data_path == tmp_path / "data"
    assert "example.org. 3600 IN MX 10 mail.example.org." in done.stdout
    assert done.stdout.count("v=DKIM1") == 2
    assert "_imaps._tcp.example.org. 3600 IN SRV" in done.stdout
    assert f"  {sys.executable} -m pillarbox --config {tmp_path}/new.toml serve" in done.stdout
    assert "long enough" not in done.stdout + done.stderr
    assert "alice@example.org" in pillarbox(tmp_path, "account", "list")
    assert "postmaster@example.org" in pillarbox(tmp_path, "alias", "list")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_servers_user_can_read_the_configuration_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        done = quickstart(tmp_path, *OPTIONS, "--password-stdin", config="etc/new.toml")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc" / "new.toml").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc" / "data").stat().st_mode & 0o777 == 0o700


def test_the_account_can_log_in(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    assert quickstart(tmp_path, *OPTIONS, "--password-file", "password").returncode == 0
    port = free_port()
    text = (tmp_path / "new.toml").read_text()
    start, rest = text.split("[listen]\n")
    rest = rest[rest.index("[tls]") :]
    (tmp_path / "new.toml").write_text(f'{start}[listen]\nimaps = ["127.0.0.1:{port}"]\n{rest}')
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", "--config", "new.toml", "serve"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any(line.endswith("ready\n") for line in process.stderr)
        context = ssl._create_unverified_context()
        with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=10) as client:
            assert client.login("alice@example.org", "from a file")[0] == "OK"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_at_a_terminal_it_asks_for_what_it_was_not_told(tmp_path: Path) -> None:
    """What was typed as a password appears nowhere."""
    questions = [
        (b"Host name of this machine", b"mail.example.org"),
        (b"Domain of the mail [example.org]: ", b""),
        (b"First account [admin@example.org]: ", b"alice"),
        (b"Password (at least 8 characters): ", b"short"),
        (b"Password (at least 8 characters): ", b"long enough"),
        (b"Repeat for confirmation: ", b"long enougj"),
        (b"Password (at least 8 characters): ", b"long enough"),
        (b"Repeat for confirmation: ", b"long enough"),
    ]
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "pillarbox", "--config", "new.toml", "quickstart"]
    with subprocess.Popen(
        [*command, "--user", "", "--data-dir", "data", "--no-service"],
        cwd=tmp_path,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        start_new_session=True,
    ) as process:
        os.close(secondary)
        shown = b""
        while True:
            if not select.select([primary], [], [], 20)[0]:
                process.kill()
                pytest.fail(f"it waits for something else: {shown!r}")
            try:
                some = os.read(primary, 65536)
            except OSError:  # so Linux says that the other end is closed
                break
            shown += some
            if questions and questions[0][0] in shown.rpartition(b"\n")[2]:
                os.write(primary, questions.pop(0)[1] + b"\n")
        os.close(primary)
    assert process.returncode == 0, shown
    assert not questions
    assert b"Error: a password needs at least 8 characters." in shown
    assert b"Error: The two entered values do not match." in shown
    assert b"long enough" not in shown
    assert load_config(tmp_path / "new.toml").hostname == "mail.example.org"
    assert "alice@example.org" in pillarbox(tmp_path, "account", "list")


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], tuple[int, str]]:
    """Runs it with `--service` on a machine whose `systemctl` only writes down what it is told."""
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/told\n')
    systemctl.chmod(0o755)
    (tmp_path / "password").write_text("long enough\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(unit_files, "_HIDDEN", {})  # /tmp, where all of this is
    options = [*OPTIONS, "--password-file", "password", "--service"]
    monkeypatch.setattr(sys, "argv", ["pillarbox", "--config", "new.toml", "quickstart", *options])

    def install(unit: Path) -> tuple[int, str]:
        monkeypatch.setattr(quickstart_module, "UNIT", unit)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out + err

    return install


def test_the_service_is_installed_and_started(
    tmp_path: Path, install: Callable[[Path], tuple[int, str]]
) -> None:
    unit = tmp_path / "pillarbox.service"
    code, said = install(unit)
    assert code == 0, said
    assert "The server runs" in said
    assert f"--config {tmp_path}/new.toml serve" in unit.read_text()
    told = (tmp_path / "told").read_text().splitlines()
    assert told == ["daemon-reload", "enable --now pillarbox"]


@pytest.mark.parametrize("hidden", [True, False])
def test_a_service_that_could_not_see_its_files_is_not_advised(
    tmp_path: Path,
    install: Callable[[Path], tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    hidden: bool,
) -> None:
    """The unit hides the homes and /tmp from the server."""
    folders = {"a home folder": (str(tmp_path),)} if hidden else {}
    monkeypatch.setattr(unit_files, "_HIDDEN", folders)
    monkeypatch.setattr(sys, "argv", ["--no-service" if x == "--service" else x for x in sys.argv])
    code, said = install(tmp_path / "pillarbox.service")
    assert code == 0, said
    assert ("systemd-unit > " in said) != hidden
    for name in ("new.toml", "data"):
        assert (f"{tmp_path}/{name} is in a home folder" in said) == hidden


def test_a_machine_without_systemd_is_told_of_in_one_line(
    tmp_path: Path, install: Callable[[Path], tuple[int, str]]
) -> None:
    code, said = install(tmp_path / "nowhere" / "pillarbox.service")
    assert code == 1
    assert "no service was installed: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "told").exists()


def test_a_configuration_that_is_there_stays(tmp_path: Path) -> None:
    assert quickstart(tmp_path, *OPTIONS, "--password-stdin").returncode == 0
    (tmp_path / "new.toml").write_text("# mine\n")
    done = quickstart(tmp_path, *OPTIONS, "--password-stdin")
    assert done.returncode == 1
    assert "write over it with --force" in done.stderr
    assert (tmp_path / "new.toml").read_text() == "# mine\n"
    done = quickstart(tmp_path, *OPTIONS, "--password-stdin", "--force", typed="other words\n")
    assert done.returncode == 0, done.stderr
    assert "there already" in done.stdout
    assert (tmp_path / "new.toml").read_text() != "# mine\n"


@pytest.mark.parametrize(
    ("options", "typed", "said"),
    [
        (("--hostname", "-x-"), "long enough\n", "is not a host name"),
        (("--hostname", "mail"), "long enough\n", "like mail.example.org"),
        (("--domain", "a b"), "long enough\n", "is not a domain"),
        (("--account", "bob@example.com"), "long enough\n", "is not an address at example.org"),
        (("--certificate", "c.pem"), "long enough\n", "go together"),
        (
            ("--certificate", "/no/c.pem", "--key", "/no/k.pem"),
            "long enough\n",
            "pillarbox: tls.certificate: /no/c.pem cannot be read: No such file or directory\npillarbox: tls.key: ",
        ),
        (("--certificate", __file__, "--key", __file__), "long enough\n", "it is not PEM"),
        (("--user", "no-such-user-here", "--data-dir", 'a"b'), "x\n", "password"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing_behind(
    tmp_path: Path, options: tuple[str, ...], typed: str, said: str
) -> None:
    done = quickstart(tmp_path, *OPTIONS, "--password-stdin", *options, typed=typed)
    assert done.returncode == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_it_names_the_option(tmp_path: Path) -> None:
    done = quickstart(tmp_path, "--domain", "example.org", "--no-service")
    assert done.returncode == 1
    assert "use --hostname" in done.stderr
    done = quickstart(tmp_path, *OPTIONS)
    assert "use --password-stdin" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_root_makes_belongs_to_the_user() -> None:

    folder = Path(tempfile.mkdtemp(prefix="pillarbox-quickstart-"))
    folder.chmod(0o755)
    try:
        done = quickstart(folder, *OPTIONS, "--user", "nobody", "--password-stdin")
        assert done.returncode == 0, done.stderr
        uid = pwd.getpwnam("nobody").pw_uid
        assert {path.stat().st_uid for path in (folder / "data").rglob("*")} == {uid}
        assert (folder / "data").stat().st_uid == uid
        assert (folder / "new.toml").stat().st_uid == 0
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_follows_no_link_and_takes_up_where_a_killed_run_ended() -> None:
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-quickstart-"))
    folder.chmod(0o755)
    try:
        victim = folder / "victim"
        victim.write_text("kept")
        victim.chmod(0o600)
        (folder / ".new.toml.new").symlink_to(victim)
        (folder / "data").mkdir(0o700)  # root's: so far a run came that was killed
        done = quickstart(folder, *OPTIONS, "--user", "nobody", "--password-stdin")
        assert done.returncode == 0, done.stderr
        assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("kept", 0o600)
        assert (folder / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_sets_it_up_is_its_user_whoever_starts_it() -> None:
    """Started by root for its ports, it left root's files, and its user could not start it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-quickstart-"))
    nobody = pwd.getpwnam("nobody")
    own = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    serve = [sys.executable, "-m", "pillarbox", "--config", "new.toml", "serve"]
    try:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        port = free_port()
        options = [option for option in OPTIONS if option not in ("--user", "")]
        done = subprocess.run(
            [*serve[:-1], "quickstart", *options, "--password-stdin"],
            cwd=folder,
            input="long enough\n",
            capture_output=True,
            text=True,
            timeout=30,
            **own,
        )
        assert done.returncode == 0, done.stderr
        assert "(it becomes nobody then)" in done.stdout
        assert load_config(folder / "new.toml").user == "nobody"
        text = (folder / "new.toml").read_text()
        start, rest = text.split("[listen]\n")
        rest = rest[rest.index("[tls]") :]
        (folder / "new.toml").write_text(f'{start}[listen]\nimaps = ["127.0.0.1:{port}"]\n{rest}')
        for rights in ({}, own, {}):
            with subprocess.Popen(
                serve, cwd=folder, stderr=subprocess.PIPE, text=True, **rights
            ) as process:
                assert process.stderr is not None
                log = []
                for line in process.stderr:
                    log.append(line)
                    if line.endswith("ready\n"):
                        break
                process.send_signal(signal.SIGTERM)
                log += process.stderr
            assert process.returncode == 0, log
            assert not any("stays root" in line for line in log)
            owners = {path.stat().st_uid for path in (folder / "data").rglob("*")}
            assert owners == {nobody.pw_uid}
    finally:
        shutil.rmtree(folder)


def test_the_containerfile_copies_what_there_is() -> None:
    """And runs as an ordinary user, with a volume and a health check."""
    root = Path(__file__).parents[3]
    steps = [
        line.split()
        for line in (root / "Containerfile").read_text().replace("\\\n", " ").splitlines()
        if line and not line.startswith("#")
    ]
    for name, *words in steps:
        if name == "COPY" and not words[0].startswith("--from"):
            assert all((root / word).exists() for word in words[:-1])
            allowed = (root / ".containerignore").read_text().split()
            assert all(f"!{word}" in allowed for word in words[:-1])
    last = {name: words for name, *words in steps}
    assert last["USER"] == ["pillarbox"]
    assert last["VOLUME"] == ["/var/lib/pillarbox"]
    assert "status" in " ".join(last["HEALTHCHECK"])
