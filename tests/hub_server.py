"""A stand-in of the Hugging Face hub that takes commits, at the level of its HTTP interface."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import yaml

TOKEN = "hf_of-the-custodian"


class Hub:
    """What it holds: files by repository (`models/OWNER/NAME`), who sees it, and how many commits it took.

    `ignored` are paths that a repository's .gitignore names; while `is_down` no commit is taken.
    """

    def __init__(self):
        self.files, self.visibility, self.commits = {}, {}, []
        self.ignored, self.is_down = set(), False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def page(self, repository):
        """Where people look at a repository."""
        return f"{self.endpoint}/{repository.removeprefix('models/')}"

    def commit(self, repository, lines):
        """Apply a commit as a whole."""
        files = dict(self.files[repository])
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        self.files[repository] = files
        self.commits.append(repository)


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments):
        """Say nothing."""

    def do_GET(self):
        repository, tree, _ = self.path.removeprefix("/api/").partition("/tree/")
        files = self.hub.files.get(repository)
        if files is None or not tree:
            return self.answer(404, {"error": "Repository not found"})
        entries = [{"type": "file", "path": name, "size": len(held), "oid": "0"} for name, held in files.items()]
        return self.answer(200, entries)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        path = self.path.partition("?")[0].removeprefix("/api/")
        if path == "repos/create":
            return self.create(json.loads(body))
        if path == "validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            return self.answer(200, {"errors": [], "warnings": []} if front["license"] else {})
        repository, what, _ = path.rsplit("/", 2)
        if what == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": n in self.hub.ignored} for n in names]
            return self.answer(200, {"files": modes})
        if self.hub.is_down:
            return self.answer(400, {"error": "out of order"})
        self.hub.commit(repository, [json.loads(line) for line in body.splitlines()])
        return self.answer(
            200, {"commitUrl": f"{self.hub.page(repository)}/commit/1", "commitOid": "1", "success": True}
        )

    def create(self, asked):
        repository = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
        is_there = repository in self.hub.files
        self.hub.files.setdefault(repository, {".gitattributes": b""})
        self.hub.visibility.setdefault(repository, asked.get("visibility"))
        self.answer(409 if is_there else 200, {"url": self.hub.page(repository)})

    def answer(self, status, content):
        held = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(held)))
        self.end_headers()
        self.wfile.write(held)
