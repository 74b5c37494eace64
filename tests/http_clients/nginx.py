"""A real nginx in front, with the servers that a document shows."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from server import wait_until

SETTINGS = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
DOCS = Path(__file__).resolve().parents[2] / "docs"


def documented(document: str, replaced: dict[str, str]) -> str:
    """What a document shows for nginx, with a test's own words in place of these."""
    block = (DOCS / document).read_text().split("```nginx\n")[1].split("```")[0]
    for theirs, ours in replaced.items():
        assert theirs in block, f"{document} no longer says {theirs}"
        block = block.replace(theirs, ours)
    return block


class Nginx:
    def __init__(self, folder: Path, servers: str, answers: Callable[[], bool]):
        """Starts it, and waits until it answers; an OSError is none yet."""
        settings, errors = folder / "nginx.conf", folder / "error.log"
        settings.write_text(SETTINGS.format(folder=folder, servers=servers))
        self._process = subprocess.Popen(["nginx", "-c", settings, "-e", errors])

        def is_up() -> bool:
            assert self._process.poll() is None, errors.read_text()
            try:
                return answers()
            except OSError:
                return False

        wait_until("nginx", is_up)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
