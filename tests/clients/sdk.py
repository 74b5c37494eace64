"""Both majors of the MCP SDK for Python behind one small face, so that one suite drives both.

Results come back as the JSON that was on the wire. The human is a coroutine that gets the question's params and
returns an `ElicitResult` as a dict; a client without a human does not declare the capability.
"""

import importlib.metadata
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

MAJOR = int(importlib.metadata.version("mcp").split(".")[0])
if MAJOR == 1:
    from mcp import ClientSession, McpError, types
else:
    import mcp_types as types
    from mcp import Client, MCPError as McpError

# What the SDK can speak. 1.x: the handshake. 2.x: the handshake, a probe by `server/discover`, and 2026-07-28.
ERAS = ["handshake"] if MAJOR == 1 else ["handshake", "auto", "2026-07-28"]
PATIENCE = 60

Human = Callable[[dict], Awaitable[dict]]


def wire(model) -> dict:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


class Refused(Exception):
    """A JSON-RPC error."""


@dataclass
class Result:
    raw: dict

    @property
    def is_error(self) -> bool:
        return self.raw.get("isError", False)

    @property
    def text(self) -> str:
        return "\n".join(block.get("text", "") for block in self.raw["content"])

    @property
    def code(self) -> str:
        """The stable code that begins an error's text."""
        assert self.is_error, f"the call went well: {self.raw}"
        assert "structuredContent" not in self.raw, f"a structured error: {self.raw}"
        return self.text.split(":")[0]

    @property
    def ok(self) -> dict:
        """The structured result, which the text must say as well."""
        assert not self.is_error, f"the call failed: {self.text}"
        structured = self.raw["structuredContent"]
        assert json.loads(self.raw["content"][0]["text"]) == structured
        return structured


@dataclass
class Session:
    session: object
    version: str
    server: dict
    instructions: str
    asked: list[dict] = field(default_factory=list)

    async def _try(self, call):
        try:
            return await call
        except McpError as error:
            raise Refused(str(error)) from error

    async def _all(self, method, name: str) -> list[dict]:
        entries, cursor = [], None
        while True:
            if MAJOR == 1:
                page = await method(params=types.PaginatedRequestParams(cursor=cursor))
            else:
                page = await method(cursor=cursor)
            page = wire(page)
            entries += page[name]
            cursor = page.get("nextCursor")
            if not cursor:
                return entries

    async def tools(self) -> list[dict]:
        return await self._all(self.session.list_tools, "tools")

    async def call(self, tool: str, **arguments) -> Result:
        return Result(wire(await self._try(self.session.call_tool(tool, arguments))))

    async def resources(self) -> list[dict]:
        return await self._all(self.session.list_resources, "resources")

    async def templates(self) -> list[dict]:
        return await self._all(self.session.list_resource_templates, "resourceTemplates")

    async def read(self, uri: str) -> dict:
        """The JSON in a resource's one text block."""
        contents = wire(await self._try(self.session.read_resource(uri)))["contents"]
        assert len(contents) == 1
        return json.loads(contents[0]["text"])

    async def prompts(self) -> list[dict]:
        return await self._all(self.session.list_prompts, "prompts")

    async def prompt(self, name: str, **arguments: str) -> list[dict]:
        return wire(await self._try(self.session.get_prompt(name, arguments)))["messages"]

    async def complete_template(self, template: str, name: str, value: str, **known: str) -> list[str]:
        reference = types.ResourceTemplateReference(type="ref/resource", uri=template)
        return await self._complete(reference, name, value, known)

    async def complete_prompt(self, prompt: str, name: str, value: str, **known: str) -> list[str]:
        return await self._complete(types.PromptReference(type="ref/prompt", name=prompt), name, value, known)

    async def _complete(self, reference, name: str, value: str, known: dict[str, str]) -> list[str]:
        result = await self._try(self.session.complete(reference, {"name": name, "value": value}, known or None))
        return wire(result)["completion"]["values"]


@asynccontextmanager
async def connect(
    command: Path,
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    human: Human | None = None,
    era: str = "handshake",
):
    """A session over a server's stdio; its standard error goes to `stderr.txt` in the folder."""
    server = StdioServerParameters(command=str(command), args=arguments, env=environment, cwd=folder)
    with open(folder / "stderr.txt", "a", encoding="utf-8") as errors:
        async with _over(stdio_client(server, errlog=errors), human, era) as session:
            yield session


@asynccontextmanager
async def connect_http(url: str, headers: dict[str, str], human: Human | None = None, era: str = "handshake"):
    """A session over Streamable HTTP."""
    async with create_mcp_http_client(headers=headers) as http:
        async with _over(streamable_http_client(url, http_client=http), human, era) as session:
            yield session


@asynccontextmanager
async def _over(transport, human: Human | None, era: str):
    asked: list[dict] = []

    async def answer(_context, params):
        asked.append(wire(params))
        return types.ElicitResult(**await human(asked[-1]))

    callback = answer if human else None
    if MAJOR == 1:
        async with (
            transport as (reader, writer, *_),
            ClientSession(reader, writer, timedelta(seconds=PATIENCE), elicitation_callback=callback) as session,
        ):
            hello = await session.initialize()
            yield Session(session, str(hello.protocolVersion), wire(hello.serverInfo), hello.instructions or "", asked)
    else:
        mode = "legacy" if era == "handshake" else era
        client = Client(
            transport,
            mode=mode,
            elicitation_callback=callback,
            read_timeout_seconds=PATIENCE,
            cache=None,  # every look is a fresh one
        )
        async with client:
            info = wire(client.server_info) if client.server_info else {}
            yield Session(client, client.protocol_version, info, client.instructions or "", asked)


def accept(text: str = "yes", field_name: str = "answer") -> Human:
    """A human who types this text."""

    async def human(_question: dict) -> dict:
        return {"action": "accept", "content": {field_name: text}}

    return human


def does(action: str) -> Human:
    """A human who declines or cancels."""

    async def human(_question: dict) -> dict:
        return {"action": action}

    return human
