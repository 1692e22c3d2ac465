"""The OpenAPI page at /docs, which loads nothing from elsewhere: the body that jobs are asked for with, and examples,
which the tests send."""

import base64
import io
from importlib import resources
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from uniavgen.apps.server.schemas import VideoRequest

_REF: Final = "#/components/schemas/{model}"


def _picture() -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _recording() -> str:
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(4000)
        sound.writeframes(bytes(128 + 40 * (-1) ** (i // 10) for i in range(2400)))
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "joint": {
        "summary": "A picture says a sentence",
        "value": {
            "prompt": "a person speaks",
            "speech": "Good morning.",
            "image_reference": _picture(),
            "num_frames": 17,
            "num_inference_steps": 2,
        },
    },
    "reference_audio": {
        "summary": "In the voice of a recording",
        "value": {
            "speech": "Good morning.",
            "image_reference": {"image_url": _picture()},
            "audio_reference": {"audio_url": _recording()},
            "voice_text": "Hello.",
            "consent": True,
            "seconds": 1,
            "seed": 7,
            "extra_params": {"steps": 2, "guidance": "none"},
        },
    },
    "animation": {
        "summary": "A picture speaks a recording",
        "value": {"image_reference": _picture(), "audio_reference": _recording(), "num_inference_steps": 2},
    },
}
_DOCS_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'"
)
"""The page begins with a script of its own."""
CREATE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _REF.format(model="VideoRequest")}, "examples": EXAMPLES},
            "multipart/form-data": {
                "schema": {
                    "allOf": [
                        {"$ref": _REF.format(model="VideoRequest")},
                        {"properties": {"input_reference": {"type": "string", "format": "binary"}}},
                    ]
                }
            },
        },
    }
}


def add_schema(app: FastAPI) -> None:
    """Lets the application describe the body of a job, which it reads by itself."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            body = VideoRequest.model_json_schema(ref_template=_REF)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas |= body.pop("$defs", {})
            schemas["VideoRequest"] = body
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi


def add_docs(app: FastAPI) -> None:
    """Serves Swagger UI at /docs from the package that brings its files."""
    files = resources.files("fastapi_offline") / "static"
    app.mount("/docs-files", StaticFiles(directory=str(files)))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs-files/swagger-ui-bundle.js",
            swagger_css_url="/docs-files/swagger-ui.css",
            swagger_favicon_url="/docs-files/favicon.png",
        )
        page.headers["Content-Security-Policy"] = _DOCS_POLICY
        return page
