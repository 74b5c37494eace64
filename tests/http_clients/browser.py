"""A headless Chromium that reaches this machine and nothing else, driven by its own protocol.

What it asks for, says and refuses is kept, so that a test can say what a page did, not only how it looks.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import websocket
from vault import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """`with Browser() as browser`: one page, whose events are read while something is waited for."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="vmchrome", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                program(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                # No name leads anywhere: the network is cut but for this machine's own address.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--proxy-server=direct://",
                "--window-size=1400,1000",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={self._folder.name}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # What went wrong: console errors, exceptions, what a policy refused.
        self.faults: list[str] = []
        # Every address that was asked for.
        self.asked: list[str] = []
        # Status by address.
        self.answered: dict[str, int] = {}
        self._count, self._results = 0, {}
        self._socket = websocket.create_connection(self._page(), timeout=PATIENCE, max_size=None)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self._call(f"{domain}.enable")

    def _page(self) -> str:
        import urllib.request

        port = Path(self._folder.name) / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self._process.poll() is None, "Chromium does not start"
            if port.exists() and (text := port.read_text().split()):
                with urllib.request.urlopen(f"http://127.0.0.1:{text[0]}/json/list", timeout=PATIENCE) as answer:
                    pages = [page for page in json.load(answer) if page["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            time.sleep(0.05)
        raise AssertionError("Chromium opens no port")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> None:
        message = json.loads(self._socket.recv())
        if "id" in message:
            self._results[message["id"]] = message
            return
        method, params = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Network.responseReceived":
            self.answered[params["response"]["url"]] = params["response"]["status"]
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            self.faults.append(f"failed: {params.get('blockedReason') or params['errorText']}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(f"exception: {details.get('exception', {}).get('description') or details['text']}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            words = [str(argument.get("value", argument.get("description", ""))) for argument in params["args"]]
            self.faults.append(f"console: {' '.join(words)}")
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(f"log: {params['entry']['text']}")
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            details = params["issue"]["details"]["contentSecurityPolicyIssueDetails"]
            self.faults.append(f"policy: {details.get('violatedDirective')} {details.get('blockedURL', '')}")

    def _call(self, method: str, **params):
        self._count += 1
        number = self._count
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while number not in self._results:
            self._read()
        answer = self._results.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, url: str) -> None:
        error = self._call("Page.navigate", url=url).get("errorText")
        assert not error, f"{url}: {error}"

    def evaluate(self, script: str):
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, what: str, script: str) -> None:
        """Until the script gives something true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(script):
            assert time.monotonic() < end, f"waited {PATIENCE} s in vain for {what}; {self.faults}"
            time.sleep(0.1)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))
