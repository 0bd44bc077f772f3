"""What `data_dir` names: a folder that is mistyped is told and never given away; others hear who may use it."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

NOBODY = pwd.getpwnam("nobody")
STRANGER = 54321
"""A user that the machine has no name for."""

CONFIG = """
hostname = "mail.example.test"
data_dir = "{data}"
user = "{user}"
[listen]
smtp = ["127.0.0.1:0"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where others may go, unlike pytest's own, whatever umask other tests left."""
    before = os.umask(0o022)
    path = Path(tempfile.mkdtemp(prefix="pillarbox-folder-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
    os.umask(before)


def configure(folder: Path, data: str = "data", user: str = "nobody", more: str = "") -> None:
    (folder / "pillarbox.toml").write_text(CONFIG.format(data=data, user=user) + more)


def pillarbox(folder: Path, *words: str, uid: int = 0) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        **({"user": uid, "group": NOBODY.pw_gid, "extra_groups": []} if uid else {}),
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("command", ["serve", "config check", "check", "account list", "doctor"])
def test_a_folder_of_other_files_is_not_to_be_given_away(folder: Path, command: str) -> None:
    """Root that follows `chown -R pillarbox: /etc` has lost its machine."""
    configure(folder, "etc")
    (folder / "etc").mkdir()
    (folder / "etc" / "passwd").touch()
    (folder / "etc" / "lock").mkdir()  # as /run and /var have one
    code, said = pillarbox(folder, *command.split())
    assert code == 1
    assert said == (
        f"pillarbox: data_dir: {folder}/etc belongs to root and has files in it, none of them Pillarbox's:"
        " name a folder of its own, like /var/lib/pillarbox\n"
    )


def test_a_folder_of_other_files_is_a_fault_also_as_json(folder: Path) -> None:
    configure(folder, "/etc")
    code, said = pillarbox(folder, "config", "check", "--json")
    (problem,) = json.loads(said[: said.index("\npillarbox: ")])["problems"]
    assert (code, problem["setting"]) == (1, "data_dir")
    assert problem["problem"].startswith("/etc belongs to root")


@pytest.mark.parametrize("inside", ["lock", "directory.db", "lost+found/", ""])
def test_a_data_folder_and_an_empty_one_are_to_be_given_to_the_server(
    folder: Path, inside: str
) -> None:
    """As after a copy by root; a new file system has lost+found."""
    configure(folder)
    (folder / "data").mkdir()
    if inside.endswith("/"):
        (folder / "data" / inside).mkdir()
    elif inside:
        (folder / "data" / inside).touch()
    code, said = pillarbox(folder, "serve")
    assert (code, f"run: chown -R nobody: {folder}/data\n" in said) == (1, True)


@pytest.mark.parametrize("command", ["serve", "config check", "domain add example.test"])
def test_only_the_last_folder_of_the_path_is_made(folder: Path, command: str) -> None:
    configure(folder, "mistyped/data")
    code, said = pillarbox(folder, *command.split())
    assert code == 1
    assert said == (
        f"pillarbox: data_dir: {folder}/mistyped/data cannot be made, for {folder}/mistyped is missing:"
        f" mount its disk, correct data_dir, or run: mkdir -p {folder}/mistyped\n"
    )
    assert not (folder / "mistyped").exists()


def test_quickstart_writes_no_configuration_for_a_folder_that_cannot_be_meant(folder: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pillarbox", "--config", "new.toml", "quickstart"),
            *("--hostname", "mail.example.test", "--domain", "example.test", "--account", "a"),
            *("--user", "nobody", "--no-service", "--data-dir", "/etc", "--password-stdin"),
        ],
        cwd=folder,
        input="long enough\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pillarbox: data_dir: /etc belongs to root")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "command",
    ["check", "account list", "queue list", "status", "doctor", "tls status", "serve"],
)
def test_others_are_told_whose_server_it_is(folder: Path, command: str) -> None:
    """And not to have all given to them."""
    configure(folder)
    assert pillarbox(folder, "domain", "add", "example.test")[0] == 0
    code, said = pillarbox(folder, *command.split(), uid=STRANGER)
    assert code == 1
    assert (
        said
        == f"pillarbox: data_dir: {STRANGER} may not use {folder}/data; run this as root or nobody\n"
    )


@pytest.mark.parametrize(("owner", "whom"), [(NOBODY.pw_uid, "root or nobody"), (0, "root")])
def test_where_no_user_is_named_the_folder_tells_whose_server_it_is(
    folder: Path, owner: int, whom: str
) -> None:
    configure(folder, user="")
    assert pillarbox(folder, "domain", "add", "example.test", uid=0)[0] == 0
    os.chown(folder / "data", owner, -1)
    code, said = pillarbox(folder, "account", "list", uid=STRANGER)
    assert (code, said.endswith(f"; run this as {whom}\n")) == (1, True)


def test_others_can_check_what_the_configuration_says_all_the_same(folder: Path) -> None:
    configure(folder)
    assert pillarbox(folder, "domain", "add", "example.test")[0] == 0
    code, said = pillarbox(folder, "config", "check", uid=STRANGER)
    assert code == 0
    assert (
        f"Note: data_dir: {STRANGER} may not use {folder}/data; run this as root or nobody\n"
        in said
    )
    assert "chown" not in said


@pytest.mark.parametrize("uid", [NOBODY.pw_uid, STRANGER])
def test_a_key_that_only_root_reads_is_no_fault_for_others(folder: Path, uid: int) -> None:
    """Root starts such a server, which keeps the right to read it."""
    (folder / "secret").mkdir(mode=0o700)
    key = folder / "secret" / "key.pem"
    key.touch()
    configure(folder, more=f'[tls]\ncertificate = "{key}"\nkey = "{key}"\n')
    assert pillarbox(folder, "domain", "add", "example.test")[0] == 0
    code, said = pillarbox(folder, "config", "check", uid=uid)
    assert code == 0, said
    assert f"Note: {key}: only a server that root starts can read it: run this as root" in said
    assert "chown" not in said
    assert pillarbox(folder, "config", "check")[0] == 1  # it is no key


def test_others_hear_how_mail_can_be_left(folder: Path) -> None:
    configure(folder)
    assert pillarbox(folder, "domain", "add", "example.test")[0] == 0
    assert pillarbox(folder, "sendmail", "bob@example.test") == (0, "")
    code, said = pillarbox(folder, "sendmail", "bob@example.test", uid=STRANGER)
    assert code == 77
    assert said == (
        f"sendmail: {folder}/data/drop: Permission denied; only root and the server's user may leave"
        " mail there: see drop_dir in [sendmail]\n"
    )


def test_mail_is_left_before_the_first_start_with_a_word_on_it(folder: Path) -> None:
    configure(folder, more='[sendmail]\ndrop_dir = "drop"\n')
    code, said = pillarbox(folder, "sendmail", "bob@example.test", uid=STRANGER)
    text = f"there is no folder {folder}/drop yet: the start of the server makes it"
    assert (code, said) == (75, f"sendmail: {text}\n")


@pytest.mark.parametrize("user", ["nobody", ""])
def test_a_folder_of_other_files_does_not_become_one_for_mail(folder: Path, user: str) -> None:
    """It would get a mode by which all users of the machine can add files."""
    (folder / "etc").mkdir(mode=0o755)
    (folder / "etc" / "passwd").touch()
    configure(folder, user=user, more='[sendmail]\ndrop_dir = "etc"\n')
    code, said = pillarbox(folder, "serve")
    text = f"the drop folder {folder}/etc has files that are no mail: name a folder of its own"
    assert (code, text in said, f"{folder}/etc\n" in said) == (1, True, False)
    assert (folder / "etc").stat().st_mode & 0o7777 == 0o755
    if user:
        said = pillarbox(folder, "config", "check")[1]
        assert "it has files that are no mail: name a folder of its own\n" in said
