"""The OpenAPI 3.1 document of the JSON API, made from `web.schema` and one table.

`python -m jaga_server.web.openapi` prints it; docs/openapi.json is that text, and a test
keeps it so. The application takes its API routes from the same table.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from jaga_server import __version__
from jaga_server.web import schema

EVENTS_LIMIT: Final = 1000
SERIES_DAYS: Final = 31


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query or path parameter."""

    name: str
    where: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the API."""

    path: str
    name: str
    """The handler's name in `web.app`, and the operation's."""
    summary: str
    answer: type | None
    """None: `media` says what comes instead."""
    media: str = "application/json"
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()


_MS = {"type": "integer", "minimum": 0}
_SITE = Parameter("site", "path", {"type": "string"}, "Site id.")

ROUTES: Final = (
    Route("/api/1/summary", "summary", "The first screen's numbers.", schema.Summary),
    Route("/api/1/sites", "sites", "Every site.", schema.SiteList),
    Route(
        "/api/1/sites/{site}",
        "site",
        "One site with its host, its holes and its last events.",
        schema.SiteDetail,
        parameters=(_SITE,),
        errors=(404,),
    ),
    Route(
        "/api/1/sites/{site}/boots",
        "boots",
        "What is stored of each boot of a site: gaps, and what is known to be lost.",
        schema.SiteBoots,
        parameters=(_SITE,),
        errors=(404,),
    ),
    Route(
        "/api/1/sites/{site}/series",
        "series",
        "A site's round trips and loss over time; the last hour if not told.",
        schema.Series,
        parameters=(
            _SITE,
            Parameter(
                "from_ms", "query", _MS, "Unix milliseconds; an hour before to_ms."
            ),
            Parameter("to_ms", "query", _MS, "Unix milliseconds; default now."),
        ),
        errors=(400, 404),
    ),
    Route(
        "/api/1/events",
        "events",
        "Transitions and decisions, newest first.",
        schema.EventList,
        parameters=(
            Parameter("site", "query", {"type": "string"}, "Only of this site."),
            Parameter(
                "limit",
                "query",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": EVENTS_LIMIT,
                    "default": 100,
                },
                "At most this many.",
            ),
        ),
        errors=(400, 404),
    ),
    Route(
        "/api/1/kecamatan.geojson",
        "kecamatan",
        "The kecamatan's outlines, as configured.",
        None,
        media="application/geo+json",
        errors=(404,),
    ),
    Route(
        "/api/1/stream",
        "stream",
        "Server-sent events `update`; each `data` is a StreamUpdate.",
        None,
        media="text/event-stream",
    ),
    Route("/api/1/openapi.json", "openapi", "This document.", None),
)


def document() -> dict[str, Any]:
    """Return the document as plain values."""
    answers = [route.answer for route in ROUTES if route.answer is not None]
    _, components = msgspec.json.schema_components(
        [*answers, schema.StreamUpdate, schema.Problem],
        ref_template="#/components/schemas/{name}",
    )
    for component in components.values():
        if "description" in component:
            # From a docstring: only Python 3.13 takes its indentation away by itself.
            component["description"] = inspect.cleandoc(component["description"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jaga collector",
            "version": __version__,
            "description": inspect.cleandoc(schema.__doc__ or ""),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {route.path: {"get": _operation(route)} for route in ROUTES},
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _operation(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.answer is not None:
        content = {"schema": _reference(route.answer)}
    elif route.name == "stream":
        content = {
            "schema": {"type": "string"},
            "x-event-data": _reference(schema.StreamUpdate),
        }
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            "200": {"description": "As asked.", "content": {route.media: content}}
        },
    }
    if route.parameters:
        operation["parameters"] = [
            {
                "name": p.name,
                "in": p.where,
                "required": p.where == "path",
                "schema": p.schema,
                "description": p.description,
            }
            for p in route.parameters
        ]
    for status in route.errors:
        operation["responses"][str(status)] = {
            "description": {400: "A parameter will not do.", 404: "Not here."}[status],
            "content": {
                "application/problem+json": {"schema": _reference(schema.Problem)}
            },
        }
    return operation


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def text() -> bytes:
    """Return the document as docs/openapi.json has it."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(text())
