"""A Hugging Face Hub in memory, over real HTTP on this machine: what huggingface_hub needs to publish and download.

    with serve() as hub:
        api = HfApi(endpoint=hub.url, token="writer")

It knows three tokens: "writer" may write to the organisation `org` and to nothing else, "reader" may only read, and
"fine-grained" does not say beforehand that it may write to `fine` only. Requests can be made to fail
(`hub.fail_next`), so that every way an upload can end is tried: refused, limited, broken, cut off before or after the
server did what was asked.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.hub_state import File, Hub, Refused, Repository


LFS_SUFFIXES = (".safetensors", ".bin", ".onnx")
NAMES = {"writer": "org", "reader": "somebody", "fine-grained": "fine"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: the second of two waits for the first to be acknowledged
    hub: Hub
    lock: threading.Lock

    def log_message(self, *arguments):
        pass

    def handle_request(self):
        split = urlsplit(self.path)
        self.route, self.query = unquote(split.path), parse_qs(split.query)
        body = self.read_body()
        with self.lock:
            self.hub.requests.append((self.command, self.route))
            failure = self.hub.failure(self.command, self.route)
            try:
                answer = None if failure and not failure.after else self.answer(body)
            except Refused as refused:
                headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
                return self.send(refused.status, refused.body, headers)
        if failure is None:
            return self.send(*answer)
        if failure.status is None:
            self.close_connection = True
            return self.connection.close()
        self.send(failure.status, {"error": failure.message}, {"Retry-After": "0"} if failure.status == 429 else {})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_request

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, status: int, body, headers: dict[str, str] | None = None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Routes: each returns (status, body) or (status, body, headers).

    def answer(self, body: bytes):
        routes = (
            (r"/api/whoami-v2", self.whoami),
            (r"/api/validate-yaml", self.validate_card),
            (r"/api/repos/create", self.create),
            (r"/api/collections", self.create_collection),
            (r"/api/collections/([^/]+/[^/]+)", self.collection),
            (r"/api/collections/([^/]+/[^/]+)/items", self.add_item),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.lfs_batch),
            (r"/lfs/(\w{64})", self.lfs_object),
            (r"/api/models/([^/]+/[^/]+)", self.info),
            (r"/api/models/([^/]+/[^/]+)/revision/(.+)", self.info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?(.*)", self.tree),
            (r"/api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        )
        for pattern, method in routes:
            if match := re.fullmatch(pattern, self.route):
                return method(body, *match.groups())
        raise Refused(404, "RepoNotFound")

    def user(self) -> str | None:
        header = self.headers.get("Authorization", "")
        token = header.removeprefix("Bearer ")
        if header and token not in NAMES:
            raise Refused(401, "Unauthorized", "Invalid credentials in Authorization header")
        return NAMES.get(token)

    def check_may_write(self, name: str):
        if self.user() is None:
            raise Refused(401, "Unauthorized")
        owner = name.partition("/")[0]
        if self.user() != owner:
            message = f'You don\'t have the rights to create a model under the namespace "{owner}"'
            raise Refused(403, "Forbidden", message)

    def repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(self.hub.renamed.get(name, name))
        if found is None or (found.private and self.user() != name.partition("/")[0]):
            raise Refused(404 if self.user() else 401, "RepoNotFound")
        return found

    def whoami(self, body):
        if self.user() is None:
            raise Refused(401, "Unauthorized")
        role = {"org": "write", "fine": "fineGrained"}.get(self.user(), "read")
        return 200, {"type": "user", "name": self.user(), "orgs": [], "auth": {"accessToken": {"role": role}}}

    def validate_card(self, body):
        front = re.match(r"---\n(.*?)\n---", json.loads(body)["content"], flags=re.DOTALL)
        try:
            errors = self.hub.card_errors(yaml.safe_load(front[1] if front else "") or {})
        except yaml.YAMLError as error:
            errors = [str(error)]
        if errors:
            raise Refused(400, "BadRequest", errors=[{"message": message} for message in errors], warnings=[])
        return 200, {"errors": [], "warnings": []}

    def create(self, body):
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or self.user()}/{wanted['name']}"
        self.check_may_write(name)
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            raise Refused(409, "Conflict", url=url)
        self.hub.repositories[name] = Repository.new(wanted.get("visibility") == "private")
        return 200, {"url": url, "name": name}

    def info(self, body, name, revision="main"):
        found = self.repository(name)
        commit = found.resolve(revision)
        siblings = [{"rfilename": path} for path in found.commits[commit]]
        name = self.hub.renamed.get(name, name)
        return 200, {"_id": "0" * 24, "id": name, "sha": commit, "private": found.private, "siblings": siblings}

    def tree(self, body, name, revision, folder):
        found = self.repository(name)
        entries = []
        for path, file in found.commits[found.resolve(revision)].items():
            if not path.startswith(folder):
                continue
            entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.git_id}
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 130}
            entries.append(entry)
        return 200, entries

    def branch(self, body, name, branch):
        self.check_may_write(name)
        found = self.repository(name)
        if branch in found.branches:
            raise Refused(409, "Conflict")
        found.branches[branch] = found.resolve(json.loads(body or b"{}").get("startingPoint", "main"))
        return 200, {}

    def preupload(self, body, name, revision):
        self.check_may_write(name)
        found = self.repository(name)
        present = found.commits[found.resolve(revision)]
        answers = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
            etag = present[file["path"]].etag if file["path"] in present else None
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": etag})
        return 200, {"files": answers}

    def lfs_batch(self, body, name):
        self.check_may_write(name)
        objects = []
        for wanted in json.loads(body)["objects"]:
            known = wanted["oid"] in self.hub.large_files
            upload = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}
            objects.append(wanted | ({} if known else upload))
        return 200, {"transfer": "basic", "objects": objects}

    def lfs_object(self, body, sha256):
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Refused(422, "BadSha")
        self.hub.large_files[sha256] = body
        return 200, b""

    def commit(self, body, name, branch):
        self.check_may_write(name)
        found = self.repository(name)
        head = found.resolve(branch)
        files, message = dict(found.commits[head]), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", head) != head:
                    raise Refused(412, "PreconditionFailed")
            elif line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
            elif line["key"] == "lfsFile":
                files[value["path"]] = File(self.hub.large_files[value["oid"]], lfs=True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = found.commit(branch, files, message)
        return 200, {"commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"}

    def resolve(self, body, name, revision, path):
        found = self.repository(name)
        commit = found.resolve(revision)
        if path not in found.commits[commit]:
            raise Refused(404, "EntryNotFound")
        file = found.commits[commit][path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted or self.command == "HEAD":
            return 200, file.content, headers
        first, last = int(wanted[1]), int(wanted[2] or len(file.content) - 1)
        part = file.content[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(file.content)}"
        return 206, part, headers

    def create_collection(self, body):
        wanted = json.loads(body)
        slug = f"{wanted['namespace']}/{re.sub(r'[^a-z0-9]+', '-', wanted['title'].lower())}-{'0' * 24}"
        self.check_may_write(slug)
        if slug in self.hub.collections:
            raise Refused(409, "Conflict", slug=slug)
        owner = {"name": wanted["namespace"], "type": "org"}
        made = {"slug": slug, "title": wanted["title"], "owner": owner, "items": [], "position": 0, "theme": "blue"}
        times = {"lastUpdated": "2026-01-01T00:00:00.000Z", "upvotes": 0, "private": wanted["private"]}
        self.hub.collections[slug] = made | times | {"description": wanted.get("description")}
        return 200, self.hub.collections[slug]

    def collection(self, body, slug):
        if slug not in self.hub.collections:
            raise Refused(404, "CollectionNotFound")
        return 200, self.hub.collections[slug]

    def add_item(self, body, slug):
        self.check_may_write(slug)
        wanted, items = json.loads(body), self.hub.collections[slug]["items"]
        if wanted["item"]["id"] in [item["id"] for item in items]:
            raise Refused(409, "Conflict")
        note = {"text": wanted["note"]} if "note" in wanted else None
        items.append(wanted["item"] | {"_id": f"{len(items):024}", "position": len(items), "note": note})
        return 200, self.hub.collections[slug]


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub that is empty at first and gone afterwards."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()  # seconds that its end may take
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
