"""A server that gets its certificate by ACME, towards a CA that is not there: it serves, waits longer and longer, and
loads nothing of ACME itself."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.app.server import Server
from pillarbox.certs.renewal import note_failure, read_failures
from pillarbox.config.schema import Config, Listen, Tls


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tls = Tls(
        acme=True,
        acme_directory="http://127.0.0.1:1/dir",  # nobody listens there
        acme_listen=["127.0.0.1:0"],
    )
    return Config(
        "mail.example.test", str(tmp_path / "data"), listen=Listen(imaps=["127.0.0.1:0"]), tls=tls
    )


async def serve_until_failure(
    config: Config, count: int, is_logged: Callable[[], object] = lambda: True
) -> None:
    server = Server(config, sends=False)
    await server.start()
    try:
        deadline = time.monotonic() + 30
        while read_failures(config).count < count or not is_logged():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # for more
    finally:
        await server.stop(0.1)


def test_a_failure_is_logged_noted_and_not_tried_again_at_once(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def errors() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]

    asyncio.run(serve_until_failure(config, 1, errors))
    (line,) = errors()
    assert line.startswith("no certificate by ACME: ")
    assert line.endswith("the next attempt is in 5 minutes")
    caplog.clear()
    asyncio.run(serve_until_failure(config, 1))  # a restart does not anger the CA either
    assert not any("ordering" in each.getMessage() for each in caplog.records)
    note_failure(config, "x", time.time() - 3600)
    asyncio.run(serve_until_failure(config, 3))


def test_a_stop_ends_an_order_under_way(config: Config) -> None:
    async def work() -> float:
        async def be_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await ended.wait()
            writer.close()

        asked, ended = asyncio.Event(), asyncio.Event()
        ca = await asyncio.start_server(be_silent, "127.0.0.1", 0)
        port = ca.sockets[0].getsockname()[1]
        config.tls.acme_directory = f"http://127.0.0.1:{port}/dir"
        server = Server(config, sends=False)
        await server.start()
        await asyncio.wait_for(asked.wait(), 20)
        began = time.monotonic()
        await server.stop(0.1)
        ended.set()
        ca.close()
        return time.monotonic() - began

    assert asyncio.run(work()) < 3


def test_a_server_imports_nothing_of_acme() -> None:
    """30 MB and a tenth of a second, for what happens every second month."""
    modules = ("app.worker", "app.run", "cli.serve", "cli.tls")
    lines = [
        *(f"import pillarbox.{each}" for each in modules),
        "import json, sys",
        "print(json.dumps(sorted(sys.modules)))",
    ]
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"acme", "josepy", "requests", "OpenSSL", "pillarbox.certs.order"}
