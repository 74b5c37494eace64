#!/usr/bin/env python3
"""Records the picture of a session: starts vault-mcp with its embedded Vault, talks to it as a client does, lets a
made-up human answer, and draws what was said as session.svg beside this file. Nothing in the picture is typed by
hand but the headings.

    python3 docs/session/record.py [BINARY]

Needs Python 3.9 and a build (cargo build --release, or cargo build).
"""

import json
import os
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
COLUMNS = 124


class Session:
    """One client of the server, in a home of its own."""

    def __init__(self, binary, home):
        self.binary = binary
        self.env = {"HOME": home, "PATH": os.environ["PATH"], "SUBJECT": "alice", "LOG_LEVEL": "error"}
        self.server = subprocess.Popen(
            [binary, "--dev"], env=self.env, cwd=home, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.last = 0

    def send(self, message):
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.server.stdin.flush()

    def request(self, method, params, human=None):
        """The answer, with the question that a human got on the way, if any."""
        self.last += 1
        self.send({"id": self.last, "method": method, "params": params})
        asked = None
        while True:
            line = self.server.stdout.readline()
            if not line:
                sys.exit("the server ended; its words are above")
            message = json.loads(line)
            if message.get("method") == "elicitation/create":
                asked = message["params"]
                self.send({"id": message["id"], "result": {"action": "accept", "content": {"answer": human}}})
            elif message.get("id") == self.last and "method" not in message:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"], asked

    def call(self, tool, arguments, human=None):
        return self.request("tools/call", {"name": tool, "arguments": arguments}, human)

    def audit(self, *arguments):
        done = subprocess.run([self.binary, "audit", *arguments], env=self.env, text=True, capture_output=True, check=True)
        return done.stdout

    def end(self):
        self.server.stdin.close()
        self.server.wait(10)


def record(binary, home):
    """The session as (kind, text) pairs."""
    session = Session(binary, home)
    said = []
    hello = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "client", "version": "1"}}
    session.request("initialize", hello)
    session.send({"method": "notifications/initialized"})

    def tool(name, arguments, human=None):
        said.append(("call", f"{name} {json.dumps(arguments)}"))
        result, asked = session.call(name, arguments, human)
        if asked:
            said.append(("question", asked["message"]))
            label = next(iter(asked["requestedSchema"]["properties"].values()))["title"]
            said.append(("human", f"{label}: {human}"))
        text = result["content"][0]["text"]
        if result.get("isError"):
            said.append(("refusal", text))
        else:
            said.append(("answer", pretty(json.loads(text))))

    said.append(("heading", "An AI client looks at a service's secrets: names and masks, no values"))
    tool("vault_get", {"service": "webshop"})
    said.append(("heading", "It wants a new value there. A person is asked; the model never holds the value"))
    tool("kv_generate", {"path": "webshop", "key": "SESSION_SECRET"}, "yes")
    said.append(("heading", "It asks to see a value. The person does not type yes"))
    tool("kv_read", {"path": "webshop", "keys": ["STRIPE_KEY"], "reveal": True}, "no")
    session.end()
    said.append(("heading", "What happened is in a hash-chained log, without values"))
    said.append(("shell", "vault-mcp audit show --op kv.generate --format table"))
    said.append(("output", session.audit("show", "--op", "kv.generate", "--format", "table").strip()))
    said.append(("shell", "vault-mcp audit verify"))
    said.append(("output", session.audit("verify").strip()))
    return said


def pretty(value):
    """JSON with what is innermost, or fits, in one line."""

    def lines(value, indent):
        flat = json.dumps(value, ensure_ascii=False)
        nested = isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())
        if not nested or len(flat) + indent <= COLUMNS:
            return flat
        inner = [f"{' ' * (indent + 2)}{json.dumps(key)}: {lines(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"

    return lines(value, 0)


# ---- drawing ---------------------------------------------------------------------------------------------

MARKS = {"call": "→", "answer": "←", "refusal": "←", "question": "?", "human": "✎", "shell": "$", "output": " "}
STYLE = """
  .paper { fill: #ffffff; stroke: #d0d7de; } text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #24292f; white-space: pre; }
  .heading { font-weight: 600; fill: #57606a; } .call { fill: #0550ae; } .answer, .output { fill: #24292f; }
  .question { fill: #953800; } .human { fill: #116329; font-weight: 600; } .refusal { fill: #a40e26; } .shell { fill: #0550ae; }
  .band { fill: #fff8e6; } .rule { stroke: #d0d7de; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; stroke: #30363d; } text { fill: #e6edf3; } .heading { fill: #9198a1; } .call, .shell { fill: #79c0ff; }
    .answer, .output { fill: #e6edf3; } .question { fill: #ffb77c; } .human { fill: #7ee787; } .refusal { fill: #ff9492; }
    .band { fill: #272115; } .rule { stroke: #30363d; }
  }
"""
ADVANCE, LINE, MARGIN = 7.83, 19, 20


def wrapped(text):
    """Lines of at most COLUMNS characters, cut after a comma or at a space; what goes on is indented further."""
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        while len(line) > COLUMNS:
            comma = line.rfind(", ", len(line) // 3, COLUMNS)
            cut = comma + 1 if comma > 0 else line.rfind(" ", 20, COLUMNS)
            cut = cut if cut > 0 else COLUMNS
            yield line[:cut]
            line = indent + line[cut:].lstrip()
        yield line


def draw(said):
    body, y = [], MARGIN + 6
    width = round(2 * MARGIN + (COLUMNS + 3) * ADVANCE)
    for number, (kind, text) in enumerate(said):
        if kind == "heading":
            if number:
                y += 6
                body.append(f'<line class="rule" x1="{MARGIN}" x2="{width - MARGIN}" y1="{y}" y2="{y}"/>')
                y += 8
            rows = list(wrapped(text))
        else:
            rows = [f"{MARKS[kind] if first else ' '} {row}" for first, row in zip([True] + [False] * 999, wrapped(text))]
        if kind in ("question", "human"):
            body.append(f'<rect class="band" x="{MARGIN - 8}" y="{y}" width="{width - 2 * MARGIN + 16}" height="{LINE * len(rows)}"/>')
        for row in rows:
            y += LINE
            body.append(f'<text class="{kind}" x="{MARGIN}" y="{y - 5}" xml:space="preserve">{escape(row)}</text>')
    height = y + MARGIN
    title = "A session of vault-mcp: a masked read, a write that a person confirms, a refused reveal, the audit log"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def main():
    builds = [TOP / "target" / kind / "vault-mcp" for kind in ("release", "debug")]
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else next((build for build in builds if build.exists()), None)
    if binary is None:
        sys.exit("there is no build; run cargo build, or name the binary")
    with tempfile.TemporaryDirectory() as home:
        said = record(str(binary.resolve()), home)
        # A path of this machine tells a reader nothing.
        said = [(kind, text.replace(home, "~")) for kind, text in said]
    (HERE / "session.svg").write_text(draw(said), encoding="utf-8")
    print(HERE / "session.svg")


main()
