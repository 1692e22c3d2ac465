"""Whose browser asks: that of a key, where keys are needed, or the one that holds a cookie of ours."""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final

from uniavgen.apps.server.api_keys import ApiKeys
from uniavgen.apps.server.errors import RequestError

COOKIE: Final = "uniavgen_visitor"
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_CHALLENGE: Final = {"WWW_Authenticate": 'Basic realm="Any name, and an API key as the password", charset="UTF-8"'}
_COOKIE_S: Final = 365 * 24 * 3600


def visitor_owner(headers: Mapping[str, str], keys: ApiKeys) -> str | None:
    """Returns the owner of a browser's jobs; None for one that has no cookie yet.

    Where keys are needed, a browser asks for a name and a password; the key is the password, and its jobs are those of
    the API. Raises RequestError 401 for a key that is not taken.
    """
    if keys.are_needed:
        try:
            return keys.owner(f"Bearer {_password(headers.get('authorization', ''))}")
        except RequestError as error:
            raise RequestError(401, str(error), **_CHALLENGE) from error
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    if morsel is None or not _TOKEN.fullmatch(morsel.value):
        return None
    # A colon is in no key's name. Only the hash is stored, so that nobody who reads the store can be this browser.
    return f"page:{hashlib.sha256(morsel.value.encode()).hexdigest()[:32]}"


def new_cookie(is_secure: bool) -> str:
    """Returns the Set-Cookie header of a browser that has none; no script can read it, no other site can send it."""
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={secrets.token_hex(32)}; Path=/; Max-Age={_COOKIE_S}; HttpOnly; SameSite=Lax{secure}"


def _password(authorization: str) -> str:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
