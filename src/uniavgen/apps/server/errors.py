"""Refusals of the server: a status and one sentence, in the shape of OpenAI's errors."""

from typing import Any

from uniavgen.errors import UniAVGenError


class RequestError(UniAVGenError):
    """A request that is refused. `headers` are added to the answer."""

    def __init__(self, status: int, sentence: str, *, code: str | None = None, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def error_body(status: int, sentence: str, code: str | None = None) -> dict[str, Any]:
    """Returns the JSON of an error."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    # Half of a surrogate pair, which JSON can name, is no letter that could be sent.
    sentence = sentence.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": sentence, "type": kind, "param": None, "code": code}}
