"""A relay that puts an API key on every request, for clients that cannot send one. It changes nothing else: Host and
Origin go through as they came."""

import asyncio
import contextlib
import re
import threading
from urllib.parse import urlsplit


class Keyed:
    """Listens on a port of its own and passes on to the server's URL."""

    def __init__(self, port: int, key: str):
        self.url = f"http://localhost:{port}"
        self._port, self._key = port, key
        self._target: tuple[str, int] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def to(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _listen(self) -> None:
        await asyncio.start_server(self._serve, "localhost", self._port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*self._target)
        answers = asyncio.create_task(self._copy(back, writer))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                forth.write(head[:-2] + f"X-API-Key: {self._key}\r\n\r\n".encode())
                if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
                    forth.write(await reader.readexactly(int(length[1])))
                elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
                    size = None
                    while size != 0:
                        line = await reader.readuntil(b"\r\n")
                        size = int(line, 16)
                        forth.write(line + await reader.readexactly(size + 2))
                await forth.drain()
        # The client went away: so must what the server has open for it.
        forth.close()
        await answers

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()
