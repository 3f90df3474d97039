"""The sandbox's model hub: ModelScope's and Hugging Face's download APIs over one folder.

Two peculiarities of ModelScope are reproduced, because clients must handle them: a listing ends
silently at 3000 entries, and a range is answered with status 200 and a ``Content-Range``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

from qwenkit.sandbox import tiny_model
from qwenkit.sandbox.hub.files import Entry, HubFiles, RepositorySnapshot
from qwenkit.sandbox.oss.body import send_file

LISTING_LIMIT = 3000


class HubServer:
    """A hub whose models are the folders ``root/<owner>/<name>``.

    A public model without a folder has the tiny model that stands for it, whoever its owner is.
    """

    def __init__(self, root: Path) -> None:
        self._files = HubFiles(root, tiny_model.stand_in)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        scope = "/api/v1/models/{owner}/{name}"
        app.router.add_get(f"{scope}/repo/files", self._modelscope_listing)
        app.router.add_get(f"{scope}/repo", self._modelscope_file)
        app.router.add_get(f"{scope}/revisions", self._modelscope_revisions)
        resolve = "{owner}/{name}/resolve/{revision}/{path:.+}"
        app.router.add_get(f"/models/{resolve}", self._modelscope_file)
        huggingface = "/api/models/{owner}/{name}"
        app.router.add_get(huggingface, self._huggingface_model)
        app.router.add_get(f"{huggingface}/revision/{{revision}}", self._huggingface_model)
        app.router.add_get(f"{huggingface}/tree/{{revision}}", self._huggingface_tree)
        app.router.add_get(f"{huggingface}/tree/{{revision}}/{{path:.+}}", self._huggingface_tree)
        app.router.add_get(f"/{resolve}", self._huggingface_file)
        app.router.add_route("*", "/{rest:.*}", _left_out)
        return app

    # --- ModelScope

    async def _modelscope_listing(self, request: web.Request) -> web.StreamResponse:
        snapshot = await self._snapshot(request, request.query.get("Revision", "master"))
        if isinstance(snapshot, str):
            return _modelscope(404, snapshot)
        recursive = request.query.get("Recursive", "").lower() in ("true", "1")
        entries = snapshot.under(request.query.get("Root", ""), recursive=recursive)
        files = [_modelscope_entry(entry, snapshot) for entry in entries[:LISTING_LIMIT]]
        committer = {"Id": snapshot.commit, "ShortId": snapshot.commit[:8]}
        return _modelscope(200, data={"Files": files, "LatestCommitter": committer})

    async def _modelscope_revisions(self, request: web.Request) -> web.StreamResponse:
        match = request.match_info
        revisions = self._files.revisions(match["owner"], match["name"])
        if not revisions:
            return _modelscope(404, _no_model(request))
        branches = [{"Revision": revision} for revision in revisions]
        return _modelscope(200, data={"RevisionMap": {"Branches": branches, "Tags": []}})

    async def _modelscope_file(self, request: web.Request) -> web.StreamResponse:
        match, query = request.match_info, request.query
        path = match.get("path") or query.get("FilePath", "")
        revision = match.get("revision") or query.get("Revision", "master")
        snapshot = await self._snapshot(request, revision)
        if isinstance(snapshot, str):
            return _modelscope(404, snapshot)
        entry = snapshot.file(path)
        if entry is None or entry.hashes is None:
            return _modelscope(404, f"file {path} does not exist in revision {revision}")
        headers = {"ETag": f'"{entry.hashes.sha256}"'}
        if entry.is_lfs:
            headers["X-Linked-ETag"] = entry.hashes.sha256
        return await _send(request, snapshot, entry, headers, partial_status=200)

    # --- Hugging Face

    async def _huggingface_model(self, request: web.Request) -> web.StreamResponse:
        snapshot = await self._snapshot(request, request.match_info.get("revision", "main"))
        if isinstance(snapshot, str):
            return _huggingface_error("RepoNotFound", snapshot)
        siblings = [{"rfilename": entry.path} for entry in snapshot.files()]
        identity = f"{request.match_info['owner']}/{request.match_info['name']}"
        facts = {"id": identity, "modelId": identity, "sha": snapshot.commit, "private": False}
        return web.json_response({**facts, "siblings": siblings})

    async def _huggingface_tree(self, request: web.Request) -> web.StreamResponse:
        snapshot = await self._snapshot(request, request.match_info["revision"])
        if isinstance(snapshot, str):
            return _huggingface_error("RepoNotFound", snapshot)
        recursive = request.query.get("recursive", "").lower() in ("true", "1")
        entries = snapshot.under(request.match_info.get("path", ""), recursive=recursive)
        return web.json_response([_huggingface_entry(entry) for entry in entries])

    async def _huggingface_file(self, request: web.Request) -> web.StreamResponse:
        snapshot = await self._snapshot(request, request.match_info["revision"])
        if isinstance(snapshot, str):
            return _huggingface_error("RepoNotFound", snapshot)
        entry = snapshot.file(request.match_info["path"])
        if entry is None or entry.hashes is None:
            return _huggingface_error("EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": snapshot.commit, "ETag": f'"{entry.git_oid}"'}
        if entry.is_lfs:
            headers["X-Linked-Etag"] = f'"{entry.hashes.sha256}"'
            headers["X-Linked-Size"] = str(entry.size)
        return await _send(request, snapshot, entry, headers, partial_status=206)

    async def _snapshot(self, request: web.Request, revision: str) -> RepositorySnapshot | str:
        """Return the requested revision, or a message about what is missing."""
        owner, name = request.match_info["owner"], request.match_info["name"]
        snapshot = await self._files.snapshot(owner, name, revision)
        if snapshot:
            return snapshot
        if self._files.revisions(owner, name):
            return f"model {owner}/{name} has no revision {revision}"
        return _no_model(request)


async def _left_out(request: web.Request) -> web.StreamResponse:
    message = f"the sandbox's hub does not do {request.method} {request.path}"
    return _modelscope(501, f"{message}: it only lists and downloads models")


def _no_model(request: web.Request) -> str:
    return f"model {request.match_info['owner']}/{request.match_info['name']} does not exist"


def _modelscope(status: int, message: str = "", data: object = None) -> web.Response:
    envelope = {"Code": status, "Success": status == 200, "Message": message or "success"}
    return web.json_response({**envelope, "RequestId": str(uuid4()), "Data": data}, status=status)


def _modelscope_entry(entry: Entry, snapshot: RepositorySnapshot) -> dict[str, Any]:
    return {
        "Name": entry.name,
        "Path": entry.path,
        "Type": "blob" if entry.hashes else "tree",
        "Size": entry.size,
        "Sha256": entry.hashes.sha256 if entry.hashes else "",
        "IsLFS": bool(entry.hashes) and entry.is_lfs,
        "Revision": snapshot.commit,
        "CommitId": snapshot.commit,
        "CommittedDate": entry.modified,
    }


def _huggingface_entry(entry: Entry) -> dict[str, Any]:
    if entry.hashes is None:
        return {"type": "directory", "path": entry.path, "size": 0}
    facts = {"type": "file", "path": entry.path, "size": entry.size, "oid": entry.git_oid}
    if not entry.is_lfs:
        return facts
    pointer = {"pointerSize": len(entry.lfs_pointer)}
    return {**facts, "lfs": {"oid": entry.hashes.sha256, "size": entry.size, **pointer}}


def _huggingface_error(code: str, message: str) -> web.Response:
    return web.json_response({"error": message}, status=404, headers={"X-Error-Code": code})


async def _send(
    request: web.Request,
    snapshot: RepositorySnapshot,
    entry: Entry,
    headers: Mapping[str, str],
    *,
    partial_status: int,
) -> web.StreamResponse:
    """Send a file or one range of it."""
    wanted = _range(request.headers.get("Range", ""), entry.size)
    if wanted and wanted[0] > wanted[1]:
        unsatisfied = {**headers, "Content-Range": f"bytes */{entry.size}"}
        return web.Response(status=416, headers=unsatisfied)
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    with snapshot.open(entry) as file:
        return await send_file(
            request, file, entry.size, wanted, headers, partial_status=partial_status
        )


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a range; the last is smaller if it cannot be satisfied."""
    found = re.fullmatch(r"bytes=(\d{0,19})-(\d{0,19})", header.strip(), re.ASCII)
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size - 1
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last or size), size - 1)
