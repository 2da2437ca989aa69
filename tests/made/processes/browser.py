"""A page in, a headless Chromium with it out, driven over its DevTools: keys pressed, values read, downloads kept.

Its screen can be that of a phone, or paper; what it asks of the network and what its console says can be listened to.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
from made.processes import programs

_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in _NAMES if (found := shutil.which(name))), None)
_CODES = {"ArrowRight": 39, "ArrowLeft": 37, " ": 32}
# Tests ask nothing of the network, nor do the pages that they open.
_LOOPBACK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
_LEVELS = ("error", "warning", "assert")


class Tab:
    """One tab of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._heard: list[dict[str, Any]] = []

    async def ask(self, method: str, **values: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": values})
        while True:
            answer = await self._socket.receive_json(timeout=programs.PATIENCE_S)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if "method" in answer:
                self._heard.append(answer)

    async def value(self, script: str) -> Any:  # noqa: ANN401 - whatever the script gives
        """Evaluate an expression; fails where it throws."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str, within_s: float = programs.PATIENCE_S) -> None:
        """Evaluate an expression until it is true; fails where that takes longer."""
        deadline = time.monotonic() + within_s
        while not await self.value(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {within_s} s: {script}")
            await asyncio.sleep(0.05)

    async def screen(
        self, width: int, height: int, *, phone: bool = False, paper: bool = False, dark: bool = False
    ) -> None:
        """Lay pages out for a screen of this size in CSS pixels, or for paper that is as wide, light or dark."""
        values = {"width": width, "height": height, "deviceScaleFactor": 0, "mobile": phone}
        await self.ask("Emulation.setDeviceMetricsOverride", **values)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.ask("Emulation.setEmulatedMedia", media="print" if paper else "", features=scheme)
        await self.ask("Emulation.setScrollbarsHidden", hidden=phone or paper)

    async def listen(self) -> None:
        """Keep from now on what `asked` and `complaints` return."""
        for domain in ("Network", "Log", "Runtime"):
            await self.ask(f"{domain}.enable")

    def asked(self) -> list[str]:
        """Return the addresses that pages asked for; what they carry with them, as data:, is not asked for."""
        found = [str(one["request"]["url"]) for one in self._of("Network.requestWillBeSent")]
        return [address for address in found if not address.startswith("data:")]

    def complaints(self) -> list[str]:
        """Return exceptions of pages, and what the console has as an error or a warning."""
        found = [str(one["exceptionDetails"]) for one in self._of("Runtime.exceptionThrown")]
        said = [one["entry"] for one in self._of("Log.entryAdded")]
        found += [f"{one['text']} {one.get('url', '')}" for one in said if one["level"] in _LEVELS]
        called = [one for one in self._of("Runtime.consoleAPICalled") if one["type"] in _LEVELS]
        return found + [str(one["args"]) for one in called]

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self._heard if one["method"] == method]

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
        scheme = address.partition(":")[0]
        await self.until(f"location.protocol + document.readyState === '{scheme}:complete'")
        return self


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
    command = [PROGRAM, *options, _LOOPBACK, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    # Its own group is killed at the end, with every process that it started.
    with (
        (profile.parent / f"{profile.name}.log").open("w") as log,
        programs.running([*command, "--window-size=1100,960", "about:blank"], stdout=log, stderr=log) as browser,
    ):
        port = profile / "DevToolsActivePort"
        programs.until(lambda: port.is_file() and bool(port.read_text().strip()), "the browser starts", browser)
        yield int(port.read_text().split()[0])
