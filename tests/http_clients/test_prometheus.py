"""A real Prometheus scrapes the server; the dashboard's queries all find something; promtool has no complaint."""

import json
import math
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from server import Server, free_port, request, wait_until
from vault import canary, unique

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "vault-mcp.json"
# What Grafana puts in place of its own variables.
VARIABLES = {"$__rate_interval": "10s", "$job": "vault-mcp", "$instance": ".*"}

SETTINGS = """
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: vault-mcp
    static_configs: [{{ targets: [{targets}] }}]
"""


class Prometheus:
    def __init__(self, folder: Path, servers: list[Server]):
        self._said = folder / "prometheus.txt"
        settings = folder / "prometheus.yml"
        targets = ", ".join(f'"{server.url.removeprefix("http://")}"' for server in servers)
        settings.write_text(SETTINGS.format(targets=targets))
        checked = subprocess.run(["promtool", "check", "config", settings], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        self.url = f"http://127.0.0.1:{free_port()}"
        listen = self.url.removeprefix("http://")
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={settings}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address={listen}",
                ],
                stdout=said,
                stderr=said,
            )
        wait_until("Prometheus", self._is_up)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self._said.read_text()
        try:
            return request("GET", f"{self.url}/-/ready").status == 200
        except OSError:
            return False

    def get(self, path: str):
        answer = request("GET", f"{self.url}/api/v1/{path}")
        assert answer.status == 200 and answer.json["status"] == "success", answer.text
        return answer.json["data"]

    def query(self, expression: str) -> list[dict]:
        return self.get(f"query?query={quote(expression)}")["result"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Scene:
    """Servers that everything happens to: calls that go well and badly, questions, tokens, a Vault that is gone."""

    def __init__(self, serve, subject: str):
        self.subject, self.key, self.reader = subject, unique("key"), unique("reader")
        keys = {self.key: subject, self.reader: {"subject": unique("h"), "scopes": ["read"]}}
        keys = {"API_KEYS_JSON": json.dumps(keys)}
        self.plain = serve(**keys)
        self.asking = serve(**keys, CONFIRM_REST="true")
        self.narrow = serve(**keys, CHILD_TOKEN_ENABLED="true")
        limit = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_REQUESTS": "3"}
        self.alone = serve(**keys, **limit, VAULT_ADDR=f"http://127.0.0.1:{free_port()}")
        self.servers = [self.plain, self.asking, self.narrow, self.alone]
        self.words = [unique("word") for _ in range(3)]

    def act(self) -> None:
        path, key, value = self.words
        own = [("X-API-Key", self.key), ("X-Correlation-Id", unique("c"))]
        self.plain.call("PUT", f"/secrets/{path}", own, {"data": {key: canary(value)}}).ok()
        self.plain.call("GET", f"/secrets/{path}", own).ok()
        self.plain.call("GET", f"/secrets/{path}/missing", own)
        self.plain.call("GET", "/secrets", [("X-API-Key", self.reader)])
        self.plain.call("GET", f"/{path}", own)
        self.plain.call("GET", f"/secrets/{path}")
        self.asking.call("PUT", f"/secrets/{path}", own, {"data": {key: canary(value)}})
        self.narrow.call("GET", f"/secrets/{path}", own)
        self.alone.call("GET", f"/secrets/{path}", own)


@pytest.fixture
def scene(serve, subject: str):
    return Scene(serve, subject)


@pytest.fixture
def prometheus(scene: Scene, tmp_path: Path):
    prometheus = Prometheus(tmp_path, scene.servers)
    yield prometheus
    prometheus.stop()


def queries() -> dict[str, str]:
    """The dashboard's queries, as Grafana sends them, by panel."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, expression
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def test_promtool_finds_nothing_to_improve(scene: Scene):
    for _ in range(4):
        scene.act()
    for server in scene.servers:
        page = server.call("GET", "/metrics").text
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", ""), page


def test_each_panel_of_the_dashboard_shows_something(scene: Scene, prometheus: Prometheus):
    waiting = queries()
    assert len(waiting) > 25

    def shown(expression: str) -> bool:
        values = [float(result["value"][1]) for result in prometheus.query(expression)]
        return any(math.isfinite(value) for value in values)

    def all_shown() -> bool:
        scene.act()
        for panel, expression in list(waiting.items()):
            if shown(expression):
                del waiting[panel]
        return not waiting

    try:
        wait_until("every panel", all_shown)
    except AssertionError:
        raise AssertionError(f"nothing to show: {waiting}") from None
    assert {result["value"][1] for result in prometheus.query("up")} == {"1"}
    # The servers that can reach their Vault are ready, the one that cannot is not.
    ready = prometheus.query("sort(vault_mcp_ready)")
    assert [result["value"][1] for result in ready] == ["0", "1", "1", "1"]


def test_no_series_tells_one_caller_or_secret_from_another(scene: Scene, prometheus: Prometheus):
    scene.act()

    def scraped():
        matching = quote('{job="vault-mcp"}')
        series = prometheus.get(f"series?match[]={matching}")
        names = {one["__name__"] for one in series}
        return series if {"http_requests_total", "vault_mcp_operations_total", "vault_mcp_ready"} <= names else None

    text = json.dumps(wait_until("a scrape of each", scraped))
    for word in [scene.subject, scene.key, scene.reader, *scene.words]:
        assert word not in text
