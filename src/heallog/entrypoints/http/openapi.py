"""The OpenAPI document: routes as Litestar sees them, bodies and answers from the domain's fields.

The page to try it is Swagger UI from our own `static/` folder: no byte of it comes from the internet.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

from litestar import Request, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import FromPath
from litestar.response import File
from litestar.routes import HTTPRoute

from heallog import __version__
from heallog.domain.errors import NotFound
from heallog.entrypoints.http.errors import STATUS
from heallog.entrypoints.http.limits import Rate

STATIC = Path(__file__).parent / "static"

_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "code": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "context": {"type": "object"},
            },
            "required": ["message", "code", "field", "context"],
        },
        "request_id": {"type": "string"},
    },
    "required": ["success", "error", "request_id"],
}


RANGES = "ranges"
"""The application's state has under it, by operation and parameter, the schemas that its settings decide about."""


def describes(
    *,
    body: dict[str, Any] | None = None,
    example: Any = None,
    answer: dict[str, Any] | None = None,
    shown: Any = None,
    codes: tuple[str, ...] = (),
    tag: bool = False,
    deprecated: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What Litestar cannot see of a handler: its body and answer with examples, and the refusals it may utter.

    `tag` adds `If-Match`; `deprecated` are parameters that will go.
    """
    return {
        "describes": {
            "body": body,
            "example": example,
            "answer": answer,
            "shown": shown,
            "codes": codes,
            "tag": tag,
            "deprecated": deprecated,
        }
    }


class _Described:
    """Litestar's document, completed once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._completed: dict[str, Any] | None = None

    def completed(self, request: Request[Any, Any, Any], document: dict[str, Any]) -> dict[str, Any]:
        if self._completed is None:
            self._completed = complete(request, document)
        return self._completed


def complete(request: Request[Any, Any, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The document with what `describes` said."""
    handlers = {
        handler.operation_id: handler
        for route in request.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    }
    document = deepcopy(document)
    document["components"]["schemas"] = {"Error": _ENVELOPE}
    for item in document["paths"].values():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                handler = handlers[operation["operationId"]]
                said = handler.opt.get("describes", {})
                ranges = request.app.state[RANGES].get(operation["operationId"], {})
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = ranges.get(parameter["name"], parameter["schema"])
                    parameter["deprecated"] = parameter["name"] in said.get("deprecated", ())
                _complete(operation, said, **_opened(handler.opt))
    return document


def _opened(opt: dict[str, Any]) -> dict[str, bool]:
    return {"public": bool(opt.get("public")), "limited": opt.get("rate") is not Rate.NONE}


def _complete(operation: dict[str, Any], said: dict[str, Any], *, public: bool, limited: bool) -> None:
    good = next((status for status in operation["responses"] if status.startswith("2")), "200")
    ok: dict[str, Any] = {"description": "Done"}
    if said.get("answer"):
        shown = {"example": said["shown"]} if said.get("shown") is not None else {}
        ok["content"] = {"application/json": {"schema": said["answer"], **shown}}
    operation["responses"] = {good: ok}
    if said.get("body") is not None:
        example = {"example": said["example"]} if said.get("example") is not None else {}
        operation["requestBody"] = {
            "required": bool(said["body"].get("required") or said["body"].get("anyOf") or said["body"].get("oneOf")),
            "content": {"application/json": {"schema": said["body"], **example}},
        }
    if said.get("tag"):
        header = {"name": "If-Match", "in": "header", "schema": {"type": "string"}, "example": '"1"'}
        operation.setdefault("parameters", []).append(header)
    codes = [*said.get("codes", ()), "UNAVAILABLE", "INTERNAL"]
    if operation.get("parameters"):
        codes.append("INVALID_FIELDS")
    if said.get("body") is not None:
        codes += ["TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"]
    if public:
        operation["security"] = []
    else:
        codes += ["NOT_AUTHENTICATED", "TOKEN_EXPIRED", "SESSION_ENDED", "FORBIDDEN", "EMAIL_NOT_VERIFIED"]
    if limited:
        codes.append("RATE_LIMITED")
    by_status: dict[str, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(str(STATUS[code]), []).append(code)
    for status, names in sorted(by_status.items()):
        operation["responses"][status] = {
            "description": " or ".join(names),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }


class JsonDocument(_Described, JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, self.completed(request, openapi_schema))


class Page(_Described, SwaggerRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, self.completed(request, openapi_schema))


@get("/schema/static/{name:str}", include_in_schema=False, public=True, rate=Rate.NONE, sync_to_thread=False)
def static_file(name: FromPath[str]) -> File:
    """The page's script and style."""
    if name not in _FILES:
        raise NotFound("there is no such file")
    path = STATIC / name
    return File(
        path,
        filename=path.name,
        content_disposition_type="inline",
        media_type="text/css" if path.suffix == ".css" else "text/javascript",
        headers={"Cache-Control": "public, max-age=86400"},
    )


_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"})


def _known(request: Request[Any, Any, Any]) -> None:
    """Litestar answers what it does not know below /schema with a page of its own; ours is the one envelope."""
    if request.url.path.rstrip("/") not in ("/schema", "/schema/openapi.json"):
        raise NotFound("there is nothing at this address")


TAGS = ("accounts", "sessions", "practice", "patients", "records", "conflicts", "sync", "imports", "audit", "health")


def configuration() -> OpenAPIConfig:
    files = "/schema/static"
    return OpenAPIConfig(
        title="HealLog",
        version=__version__,
        description="Versioned medical records for apps that must keep working offline.",
        openapi_router=Router(
            "/schema", route_handlers=[], before_request=_known, include_in_schema=False, opt={"rate": Rate.NONE}
        ),
        use_handler_docstrings=True,
        render_plugins=[
            JsonDocument(path="/openapi.json"),
            Page(
                path="/",
                js_url=f"{files}/swagger-ui-bundle.js",
                css_url=f"{files}/swagger-ui.css",
                standalone_preset_js_url=f"{files}/swagger-ui-standalone-preset.js",
                favicon="<link rel='icon' href='data:,'>",
                style="<style>body { margin: 0; padding: 0 }</style>",
            ),
        ],
        components=Components(
            security_schemes={"token": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
        ),
        security=[{"token": []}],
        tags=[Tag(name=name) for name in TAGS],
    )
