"""A page in, a headless Chromium with it out, driven over its DevTools: keys pressed, values read, downloads kept."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in _NAMES if (found := shutil.which(name))), None)
_CODES = {"ArrowRight": 39, "ArrowLeft": 37, " ": 32}


class Tab:
    """One tab of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def ask(self, method: str, **values: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": values})
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def value(self, script: str) -> Any:  # noqa: ANN401 - whatever the script gives
        """Evaluate an expression; fails where it throws."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def press(self, *keys: str) -> None:
        for key in keys:
            text = key if len(key) == 1 else ""
            code = _CODES.get(key, ord(key.upper()) if text else 0)
            values = {"key": key, "windowsVirtualKeyCode": code}
            await self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **values)

    async def screenshot(self, path: Path) -> None:
        found = await self.ask("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(found["data"]))

    async def open(self, address: str) -> Self:
        await self.ask("Page.navigate", url=address)
        for _ in range(200):
            if await self.value("location.protocol + document.readyState") == "file:complete":
                return self
            await asyncio.sleep(0.05)
        raise TimeoutError(address)


@asynccontextmanager
async def tab(profile: Path, downloads: Path) -> AsyncIterator[Tab]:
    """Start Chromium with a profile of its own; what it downloads comes into the folder `downloads`."""
    with started(profile) as port:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                page = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Tab(socket)
                await opened.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
                yield opened


@contextmanager
def started(profile: Path) -> Iterator[int]:
    assert PROGRAM is not None
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    command = [PROGRAM, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1100,960"]
    browser = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port.is_file() or not port.read_text().strip():
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        yield int(port.read_text().split()[0])
    finally:
        # Its own group, with every process that it started.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
