"""A small Hub on 127.0.0.1: repositories, branches, commits, LFS uploads, access tokens and private repositories.

It answers what huggingface_hub asks when it creates a repository, uploads to it and downloads from it, keeps everything
in memory, and follows the real Hub in what a client can see: status codes, `X-Error-Code`, entity tags (git blob id,
sha256 for LFS files), 401 for a token it does not know, and 404 for private repositories of others. Xet is left out:
clients have to run with HF_HUB_DISABLE_XET=1, and with HF_ENDPOINT set before huggingface_hub is imported.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_repository import File, Repository

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".onnx", ".pt2")
REPOSITORY = r"(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
FILES = r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)"


class HubServer(ThreadingHTTPServer):
    """Use as a context manager.

    Args:
        tokens: access token -> user name.

    Attributes:
        url: what HF_ENDPOINT has to be.
        repositories: ("models" or "datasets", "owner/name") -> `Repository`.
        blobs: LFS objects uploaded so far, by sha256.
        requests: (method, path) of everything asked.
        interrupt: None, or a function (method, path) that is called before each answer; when it returns True, the
            request's connection is cut without an answer and nothing is done.
    """

    daemon_threads = True

    def __init__(self, tokens: dict[str, str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tokens = tokens
        self.clear()

    def clear(self):
        """Forget everything but the accounts."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.interrupt = None

    def model(self, name: str) -> Repository:
        return self.repositories["models", name]

    def count(self, method: str, part: str) -> int:
        """Requests of a method whose path contains `part`."""
        return sum(verb == method and part in path for verb, path in self.requests)

    def __enter__(self) -> "HubServer":
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Refusal(Exception):
    """An answer other than success: status, error code for clients, message for people."""

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_):
        """Keep the test's output clean."""

    def answer(self):
        body = self.read_body()
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.server.requests.append((self.command, path))
        if self.server.interrupt is not None and self.server.interrupt(self.command, path):
            self.close_connection = True
            return
        self.query = parse_qs(url.query)
        try:
            for method, pattern, function in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in method:
                    parts = {key: unquote(value) for key, value in match.groupdict().items() if value}
                    return function(self, body, **parts)
            raise Refusal(404, "NotFound", f"no route for {self.command} {path}")
        except Refusal as refusal:
            codes = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            self.send(refusal.status, {"error": str(refusal)}, codes | refusal.headers)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, body, headers: dict | None = None, kind: str = "application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def user(self, *, required: bool = True) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.tokens:
            raise Refusal(401, "InvalidToken", "Invalid user token")
        if required and not token:
            raise Refusal(401, "Unauthorized", "Invalid username or password.")
        return self.server.tokens.get(token)

    def repository(self, repo: str, kind: str = "models", *, write: bool = False) -> Repository:
        user, found = self.user(required=write), self.server.repositories.get((kind, repo))
        mine = user == repo.split("/")[0]
        if found is None or (found.private and not mine):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        if write and not mine:
            raise Refusal(403, "Forbidden", f"{user} may not write to {repo}")
        return found

    def at(self, repository: Repository, revision: str) -> tuple[str, dict[str, File]]:
        sha = repository.resolve(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repository.commits[sha]


def who_am_i(handler: _Handler, body: bytes):
    account = {"type": "user", "name": handler.user(), "orgs": [], "auth": {"type": "access_token"}}
    handler.send(200, account)


def create_repository(handler: _Handler, body: bytes):
    asked, user, server = json.loads(body), handler.user(), handler.server
    owner = asked.get("organization") or user
    kind, name = f"{asked.get('type') or 'model'}s", f"{owner}/{asked['name']}"
    if owner != user:
        raise Refusal(403, "Forbidden", f"You don't have the rights to create a model under the namespace {owner}")
    address = {"url": f"{server.url}/{'' if kind == 'models' else kind + '/'}{name}", "name": name, "id": name}
    if (kind, name) in server.repositories:
        return handler.send(409, address | {"error": "You already created this repo"})
    created = Repository(private=bool(asked.get("private")) or asked.get("visibility") == "private")
    created.commit("main", {".gitattributes": File(b"*.safetensors filter=lfs\n", lfs=False)}, "initial commit")
    server.repositories[kind, name] = created
    handler.send(200, address)


def create_branch(handler: _Handler, body: bytes, kind: str, repo: str, branch: str):
    repository = handler.repository(repo, kind, write=True)
    if branch in repository.branches:
        raise Refusal(409, "Conflict", f"Reference already exists: {branch}")
    start = json.loads(body or b"{}").get("startingPoint", "main")
    repository.branches[branch] = handler.at(repository, start)[0]
    handler.send(200, {})


def describe(handler: _Handler, body: bytes, kind: str, repo: str, revision: str = "main"):
    repository = handler.repository(repo, kind)
    sha, files = handler.at(repository, revision)
    handler.send(200, {
        "id": repo, "modelId": repo, "sha": sha, "private": repository.private, "tags": [], "downloads": 0,
        "siblings": [{"rfilename": path} for path in files], "lastModified": "2026-01-01T00:00:00.000Z",
    })  # fmt: skip


def list_tree(handler: _Handler, body: bytes, kind: str, repo: str, revision: str, folder: str = ""):
    _, files = handler.at(handler.repository(repo, kind), revision)
    start = f"{folder}/" if folder else ""
    entries = [_entry(path, file) for path, file in files.items() if path.startswith(start)]
    if folder and not entries:
        raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
    handler.send(200, entries)


def list_paths(handler: _Handler, body: bytes, kind: str, repo: str, revision: str):
    _, files = handler.at(handler.repository(repo, kind), revision)
    asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
    handler.send(200, [_entry(path, files[path]) for path in asked if path in files])


def before_upload(handler: _Handler, body: bytes, kind: str, repo: str, revision: str):
    _, files = handler.at(handler.repository(repo, kind, write=True), revision)
    answers = []
    for asked in json.loads(body)["files"]:
        path = asked["path"]
        mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
        known = files[path].etag if path in files else None
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
    handler.send(200, {"files": answers})


def lfs_batch(handler: _Handler, body: bytes, repo: str, kind: str = "models"):
    handler.repository(repo, kind, write=True)
    objects = []
    for asked in json.loads(body)["objects"]:
        objects.append({"oid": asked["oid"], "size": asked["size"]})
        if asked["oid"] not in handler.server.blobs:
            objects[-1]["actions"] = {"upload": {"href": f"{handler.server.url}/lfs/{asked['oid']}", "header": {}}}
    handler.send(200, {"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")


def lfs_upload(handler: _Handler, body: bytes, oid: str):
    if hashlib.sha256(body).hexdigest() != oid:
        raise Refusal(422, "BadContent", "content does not match its sha256")
    handler.server.blobs[oid] = body
    handler.send(200, b"")


def commit(handler: _Handler, body: bytes, kind: str, repo: str, revision: str):
    repository = handler.repository(repo, kind, write=True)
    files, message = dict(handler.at(repository, revision)[1]), ""
    for line in body.splitlines():
        operation = json.loads(line)
        name, value = operation["key"], operation["value"]
        if name == "header":
            message = value["summary"]
        elif name == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
        elif name == "lfsFile":
            if value["oid"] not in handler.server.blobs:
                raise Refusal(400, "MissingObject", f"LFS object {value['oid']} was not uploaded")
            files[value["path"]] = File(handler.server.blobs[value["oid"]], lfs=True)
        elif name == "deletedFile":
            files.pop(value["path"], None)
        else:
            raise Refusal(400, "BadOperation", f"unknown operation {name}")
    sha = repository.commit(revision, files, message)
    handler.send(200, {"success": True, "commitOid": sha, "commitUrl": f"{handler.server.url}/{repo}/commit/{sha}"})


def download(handler: _Handler, body: bytes, repo: str, revision: str, path: str, kind: str = "models"):
    sha, files = handler.at(handler.repository(repo, kind), revision)
    if path not in files:
        raise Refusal(404, "EntryNotFound", f"{path} does not exist", {"X-Repo-Commit": sha})
    content, headers = files[path].content, {"ETag": f'"{files[path].etag}"', "X-Repo-Commit": sha}
    part = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
    if part and handler.command == "GET":
        first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return handler.send(206, content[first : last + 1], headers, "application/octet-stream")
    handler.send(200, content, headers, "application/octet-stream")


def validate_card(handler: _Handler, body: bytes):
    handler.send(200, {"errors": [], "warnings": []})


def _entry(path: str, file: File) -> dict:
    return {"type": "file", "path": path, "size": len(file.content), "oid": file.etag}


REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    (["GET"], r"/api/whoami-v2", who_am_i),
    (["POST"], r"/api/validate-yaml", validate_card),
    (["POST"], r"/api/repos/create", create_repository),
    (["GET"], rf"/api/{REPOSITORY}", describe),
    (["GET"], rf"/api/{REPOSITORY}/revision/{REVISION}", describe),
    (["GET"], rf"/api/{REPOSITORY}/tree/{REVISION}(?:/(?P<folder>.*))?", list_tree),
    (["POST"], rf"/api/{REPOSITORY}/paths-info/{REVISION}", list_paths),
    (["POST"], rf"/api/{REPOSITORY}/preupload/{REVISION}", before_upload),
    (["POST"], rf"/api/{REPOSITORY}/commit/{REVISION}", commit),
    (["POST"], rf"/api/{REPOSITORY}/branch/(?P<branch>[^/]+)", create_branch),
    (["POST"], rf"{FILES}\.git/info/lfs/objects/batch", lfs_batch),
    (["PUT"], r"/lfs/(?P<oid>\w+)", lfs_upload),
    (["GET", "HEAD"], rf"{FILES}/resolve/{REVISION}/(?P<path>.+)", download),
]
