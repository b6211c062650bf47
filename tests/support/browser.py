"""Chromium without a window, led through a pair of pipes: what a page shows, what it complains of, what it asks for."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager

__all__ = ["BROWSER", "Page", "browser"]

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_S = 60.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--hide-scrollbars",
)  # fmt: skip


class Page:
    """One page of a browser. ``complaints`` and ``requests`` grow as the page is used."""

    def __init__(self, read, write):
        self._read, self._write, self._left, self._number, self._session = read, write, b"", 0, None
        self.complaints, self.requests, self._events = [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path, width, *, dark=False, media="screen"):
        """Opens a file at a width in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda: "Page.loadEventFired" in self._events)

    def ask(self, expression):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def call(self, method, **params):
        """A command's result."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps({"id": self._number, "method": method, "params": params, **session}).encode())
        os.write(self._write, b"\0")
        answers = []
        self._until(lambda: bool(answers), answers)
        assert "error" not in answers[0], (method, answers[0])
        return answers[0]["result"]

    def _until(self, is_done, answers=None):
        deadline = time.monotonic() + WAIT_S
        while not is_done():
            assert select.select([self._read], [], [], max(deadline - time.monotonic(), 0))[0], "the browser is silent"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser is gone"
            *whole, self._left = (self._left + data).split(b"\0")
            for message in map(json.loads, whole):
                if message.get("id") == self._number and answers is not None:
                    answers.append(message)
                elif "method" in message:
                    self._note(message["method"], message["params"])

    def _note(self, method, params):
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(params)[:5000])


@contextmanager
def browser():
    """A page of a browser of its own, which is gone afterwards."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="onward-browser-", ignore_cleanup_errors=True) as profile:
        # The protocol has it that a browser reads from descriptor 3 and writes to 4.
        script = f'exec 3<&{their_in} 4>&{their_out}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", BROWSER, *FLAGS, f"--user-data-dir={profile}"], start_new_session=True,
            pass_fds=(their_in, their_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(their_in)
        os.close(their_out)
        try:
            yield Page(our_in, our_out)
        finally:
            os.close(our_out)
            os.close(our_in)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait(10)
