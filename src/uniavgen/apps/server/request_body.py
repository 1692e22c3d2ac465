"""Reads the body of a request: JSON, or a multipart form whose files go to disk. Nothing is read beyond its limit."""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from uniavgen.apps.server.config import MIB, ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.schemas import MAX_REFERENCES, VideoRequest, nearest_field

MAX_JSON_BYTES: Final = 32 * MIB
"""JSON is read into memory; larger files are sent as a form. [ours]"""
MAX_FIELD_BYTES: Final = 64 * 1024
_DRAIN_S: Final = 2.0
_DRAIN_BYTES: Final = 64 * MIB
FILE_FIELDS: Final = ("input_reference", "image_reference", "video_reference", "audio_reference")
_KEY: Final = re.compile(r"(?P<name>[^\[\]]+)(?P<rest>(\[[^\[\]]*\])*)")


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """A file of a form, stored in the folder of its job."""

    field: str
    name: str
    """What the client calls it."""
    path: Path


async def read_body(request: Request, folder: Path, config: ServerConfig) -> tuple[Any, list[UploadedFile]]:
    """Returns the plain data of a request, and its files, which are written to `folder`.

    Raises RequestError 413 for more bytes than are taken, 415 for other media types, 400 for what is damaged.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type == "application/json":
        return await _read_json(request), []
    if media_type != "multipart/form-data":
        raise RequestError(415, f"a request is application/json or multipart/form-data, got '{media_type[:100]}'")
    limit = sum(config.max_bytes(kind) for kind in ("image", "audio", "video")) + MIB
    await _check_announced(request, limit)
    limited = Request(request.scope, _limited(request, limit))
    try:
        async with limited.form(max_files=MAX_REFERENCES, max_fields=100, max_part_size=MAX_FIELD_BYTES) as form:
            return await run_in_threadpool(_take_form, form, folder)
    except HTTPException as error:
        raise RequestError(400, f"the form cannot be read: {str(error.detail)[:200]}") from error


async def _read_json(request: Request) -> Any:
    await _check_announced(request, MAX_JSON_BYTES)
    receive = _limited(request, MAX_JSON_BYTES)
    body = await Request(request.scope, receive).body()
    try:
        return await run_in_threadpool(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the body is not JSON; send a JSON object or a form") from error


async def _check_announced(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        await _drain(request)
        raise _too_large(limit)


async def _drain(request: Request) -> None:
    """Drops what a client still sends, for a while: one that is cut off in the middle never sees the answer."""
    count = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while count < _DRAIN_BYTES:
                message = await request.receive()
                count += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _limited(request: Request, limit: int) -> Any:
    """Returns the source of a request's messages, which ends with an error where they hold more than `limit` bytes."""
    count = 0

    async def receive() -> Message:
        nonlocal count
        message = await request.receive()
        count += len(message.get("body", b""))
        if count > limit:
            await _drain(request)
            raise _too_large(limit)
        return message

    return receive


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"a request may have at most {limit // MIB} MiB; send smaller files", Connection="close")


def _take_form(form: FormData, folder: Path) -> tuple[dict[str, Any], list[UploadedFile]]:
    data: dict[str, Any] = {}
    files = []
    for key, value in form.multi_items():
        found = _KEY.fullmatch(key)
        name = found["name"] if found else key
        if isinstance(value, UploadFile):
            if name not in FILE_FIELDS:
                raise RequestError(
                    400, f"there is no field '{name[:100]}' for a file; {nearest_field(name[:100], [*FILE_FIELDS])}"
                )
            path = folder / f"upload{len(files)}"
            with path.open("xb") as out:
                shutil.copyfileobj(value.file, out)
            files.append(UploadedFile(field=name, name=value.filename or "", path=path))
            continue
        _put(data, name, re.findall(r"\[([^\[\]]*)\]", found["rest"]) if found else [], value)
    return data, files


def _put(data: dict[str, Any], name: str, inner: list[str], value: str) -> None:
    """Puts a field of a form in its place: `lora[name]` into an object, `image_reference[]` into a list."""
    is_many = name in VideoRequest.model_fields and name in (*FILE_FIELDS, "lora")
    if inner in ([], [""]):
        if name in data and not is_many:
            raise RequestError(400, f"the field '{name[:100]}' is given twice; give it once")
        if is_many:
            data.setdefault(name, [])
            if isinstance(data[name], list):
                data[name].append(value)
        else:
            data[name] = value
        return
    # `a[0][b]` and `a[b]` are both an object of a list with one element.
    key = [part for part in inner if part and not part.isdecimal()]
    target = data.setdefault(name, {})
    if not isinstance(target, Mapping) or len(key) != 1 or key[0] in target:
        raise RequestError(400, f"the field '{name[:80]}' has a form that is not taken; send it as JSON")
    data[name] = {**target, key[0]: value}
