"""What `pipx install .` and `uv tool install .` install is whole: a server starts from the package alone."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OF_THE_PACKAGE = ("pyproject.toml", "README.md", "src", "docs/man")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in OF_THE_PACKAGE:
        ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        timeout=120,
    )
    (made,) = folder.glob("*.whl")
    return made


def test_the_package_has_all_files_beside_the_modules(wheel: Path) -> None:
    """And the man pages, where `man` finds them."""
    names = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "src" / "pillarbox"
    files = [
        path for path in package.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    ]
    assert {str(path.relative_to(package.parent)) for path in files} <= set(names)
    for page in ("man1/pillarbox.1", "man5/pillarbox.toml.5"):
        assert any(name.endswith(f".data/data/share/man/{page}") for name in names)


def test_quickstart_and_a_server_run_from_the_package_alone(wheel: Path, tmp_path: Path) -> None:
    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import pillarbox; print(pillarbox.__file__)"
    found = subprocess.check_output(
        [sys.executable, "-c", where], cwd=work, env=environment, text=True
    )
    assert found.startswith(str(installed))
    command = (sys.executable, "-P", "-m", "pillarbox", "--config", "new.toml")
    options = (
        *("--hostname", "mail.example.org", "--domain", "example.org", "--account", "alice"),
        *("--user", "", "--no-service", "--data-dir", "data", "--password-stdin"),
    )
    done = subprocess.run(
        [*command, "quickstart", *options],
        cwd=work,
        env=environment,
        input="long enough\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    config = work / "new.toml"
    before, rest = config.read_text().split("[listen]\n")
    rest = rest[rest.index("[tls]") :]
    config.write_text(f'{before}[listen]\nimaps = ["127.0.0.1:0"]\n{rest}')
    server = subprocess.Popen(
        [*command, "serve"], cwd=work, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        assert any(line.endswith("ready\n") for line in server.stderr)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
    assert server.returncode == 0
