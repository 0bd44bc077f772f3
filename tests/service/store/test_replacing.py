"""What lies in `.replacing` at a start, where it is not what a killed restore or repair left."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_intake import deliver, subjects
from test_store import run

from pillarbox.core.errors import Unavailable
from pillarbox.store import replacing
from pillarbox.store.accounts import account_path
from pillarbox.store.place import REPLACING
from pillarbox.store.store import Store

ALICE, REMOVED = 1, 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store of one account with a message, a second one that was removed, and a sound file on its way to the first
    one's place."""
    data = tmp_path / "data"

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        for number, name in ((ALICE, "alice"), (REMOVED, "removed")):
            assert store.directory.add_account(f"{name}@example.test", "", "").id == number
        await deliver(store, 1, account=ALICE)
        store.directory.remove_account(REMOVED)

    run(data, scenario)
    (data / REPLACING).mkdir()
    shutil.copyfile(account_path(data / "accounts", ALICE), data / REPLACING / f"{ALICE}.db")
    return data


def look(data: Path) -> None:
    async def scenario(store: Store) -> None:
        assert await subjects(store, ALICE) == [1]

    run(data, scenario)
    assert not (data / REPLACING).exists()
    assert not account_path(data / "accounts", REMOVED).exists()


def copied(path: Path) -> None:
    shutil.copyfile(path.with_name(f"{ALICE}.db"), path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (f"{REMOVED}.db", copied),
        ("99999999999999999999.db", copied),
        (f"{ALICE}.db", lambda path: path.write_bytes(b"")),
        (f"{ALICE}.db", lambda path: path.write_bytes(b"rubbish" * 1000)),
        ("foo.db", lambda path: path.write_text("x")),
        ("note.txt", lambda path: path.write_text("x")),
        ("3.db", lambda path: path.mkdir()),
    ],
)
def test_what_cannot_take_the_place_of_a_file_is_set_aside(
    data: Path, caplog: pytest.LogCaptureFixture, name: str, make: Callable[[Path], None]
) -> None:
    make(data / REPLACING / name)
    look(data)
    (kept,) = (data / "aside").iterdir()
    assert kept.name.endswith(f"-{name}")
    assert f"{REPLACING}/{name} cannot take the place of a mail file, and is kept as" in caplog.text


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_no_folder_is_set_aside(data: Path, is_link: bool) -> None:
    shutil.move(data / REPLACING, data / "elsewhere")
    if is_link:
        (data / REPLACING).symlink_to(data / "elsewhere")
    else:
        (data / REPLACING).touch()
    look(data)
    assert len(list((data / "aside").iterdir())) == 1


def test_a_folder_that_cannot_be_used_is_told_in_a_line(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(data / REPLACING))

    monkeypatch.setattr(Path, "iterdir", denied)
    monkeypatch.setattr(replacing, "why_denied", lambda path: f"{path} belongs to root")
    with pytest.raises(Unavailable, match=rf"/{REPLACING} belongs to root"):
        Store(data)
