"""Thunderbird without a window, driven through its remote control (Marionette): it runs our JavaScript as its own."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ports import free_port

START_S = 60.0
SCRIPT_S = 60.0

# It fetches previews for its alerts, and overlooks new mail that it is told of in the answer to that.
_PREFERENCES = {
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "mail.biff.alert.show_preview": False,
    "mail.biff.show_alert": False,
    "mail.server.default.autosync_offline_stores": False,
    "mail.server.default.max_cached_connections": 10,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "network.proxy.type": 0,
}

_COMMON = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const done = arguments[arguments.length - 1];
const given = arguments[0];
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const until = async (what, ask) => {
  for (let tries = 0; tries < 400; tries++) {
    const found = await ask();
    if (found) return found;
    await sleep(100);
  }
  throw new Error("waited in vain for " + what);
};
const server = () => MailServices.accounts.accounts[0].incomingServer;
const folder = name => name.split("/").reduce((above, part) => above.getChildNamed(part), server().rootFolder);
const messages = name => [...folder(name).messages];
const named = (name, subject) => messages(name).find(each => each.mime2DecodedSubject == subject);
const finished = start => new Promise((resolve, reject) => start({
  QueryInterface: ChromeUtils.generateQI(["nsIUrlListener", "nsIMsgCopyServiceListener"]),
  OnStartRunningUrl() {},
  OnStopRunningUrl(url, status) { status ? reject(new Error("status " + status)) : resolve(); },
  onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; },
  onStopCopy(status) { status ? reject(new Error("status " + status)) : resolve(); },
}));
(async () => {
"""
"""What scripts of tests find: `given`, and how to get at folders and messages, and to wait."""

_END = """
})().then(done, error => done({ failed: String(error) + " " + error.stack }));
"""


class Thunderbird:
    """One running program with a profile of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        profile = folder / "profile"
        profile.mkdir()
        port = free_port()
        preferences = {**_PREFERENCES, "marionette.port": port}
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});"
            for name, value in preferences.items()
        ]
        (profile / "user.js").write_text("\n".join(lines))
        self._log = (folder / "thunderbird.log").open("wb")
        self._said = folder / "imap.log"
        command = [
            "thunderbird",
            "--headless",
            "--marionette",
            "--remote-allow-system-access",
            "--no-remote",
        ]
        self._process = subprocess.Popen(
            [*command, "--profile", str(profile)],
            env={
                "HOME": str(folder),
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "MOZ_LOG": "timestamp,sync,IMAP:5",
                "MOZ_LOG_FILE": str(self._said),
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._number = 0
        self._input = b""
        try:
            self._socket = self._connect(port)
            self._read()  # it introduces itself
            self._command("WebDriver:NewSession", capabilities={})
            self._command("WebDriver:SetTimeouts", script=int(SCRIPT_S * 1000))
            self._command("Marionette:SetContext", value="chrome")
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Thunderbird":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._end()

    def run(self, script: str, **given: Any) -> Any:
        """What the body of an async function returns; it finds `given`, and the names in _COMMON."""
        told = self._command(
            "WebDriver:ExecuteAsyncScript",
            script=_COMMON + script + _END,
            args=[given],
            sandbox="system",
        )["value"]
        assert not (isinstance(told, dict) and "failed" in told), told
        return told

    def said_by_imap(self) -> str:
        """The last commands and answers of all its sessions, by its own log."""
        lines = self._said.with_name("imap.log.moz_log").read_text("utf-8", "replace").splitlines()
        told = [line for line in lines if "SendData" in line or "NewLine" in line or "dle" in line]
        return "\n".join(told[-100:])

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _connect(self, port: int) -> socket.socket:
        deadline = time.monotonic() + START_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), SCRIPT_S + 10)
            except OSError:
                assert self._process.poll() is None, Path(self._log.name).read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def _command(self, name: str, **parameters: Any) -> Any:
        self._number += 1
        octets = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(octets), octets))
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def _read(self) -> Any:
        """One packet: its length, a colon, JSON."""
        while b":" not in self._input:
            self._receive()
        length, _, rest = self._input.partition(b":")
        self._input = rest
        while len(self._input) < int(length):
            self._receive()
        packet, self._input = self._input[: int(length)], self._input[int(length) :]
        return json.loads(packet)

    def _receive(self) -> None:
        octets = self._socket.recv(65536)
        assert octets, "Thunderbird ended"
        self._input += octets


def is_installed() -> bool:
    return shutil.which("thunderbird") is not None
