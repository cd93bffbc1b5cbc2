"""The OpenAPI 3.1 document of a service, from its commands and queries, and its page."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from headwater.dispatch import CommandResult
from headwater.dispatch.http import HttpForm
from headwater.errors import Outcome
from headwater.messages.idempotency import LENGTH_MAX as KEY_LENGTH_MAX
from headwater.messages.whole_numbers import INT_MAX, INT_MIN

_REF = "#/components/schemas/{name}"

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what was wrong and what to do"},
        "code": {"type": "string", "description": "stable name of the error"},
        "outcome": {
            "enum": list(get_args(Outcome)),
            "description": "what became of the request; a query stores nothing",
        },
        "fields": {"type": "object"},
    },
    "required": ["type", "title", "status", "detail", "code"],
}


def openapi_document(
    title: str,
    version: str,
    commands: Sequence[type],
    queries: Sequence[type],
    *,
    routes: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the document; message classes' docstrings are the descriptions.

    ``routes`` are the service's own Litestar handlers, described as Litestar does.

    Source: OpenAPI Specification 3.1.0; schemas are JSON Schema 2020-12 as msgspec states them.
    """
    forms = [HttpForm(cls) for cls in (*commands, *queries)]
    messages = [*commands, *queries]
    answers = [f.kind.answer if f.kind.kind == "query" else CommandResult for f in forms]
    schemas, components = msgspec.json.schema_components([*messages, *answers], ref_template=_REF)
    for schema in (*schemas, *components.values()):
        _bound(schema)
    paths: dict[str, dict[str, Any]] = {}
    for form, own, answer in zip(forms, schemas, schemas[len(messages) :], strict=False):
        # Its name is longer than the class name where two classes have the same.
        content = components[own["$ref"].removeprefix(_REF.format(name=""))]
        operation = _operation(form, content, answer)
        paths.setdefault(form.route.path, {})[form.route.method.lower()] = operation
    for path, operations in _own_paths(routes, components).items():
        paths[path] = operations | paths.get(path, {})
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version or "0"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {**components, "Problem": _PROBLEM}},
    }


def _operation(form: HttpForm, own: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    kind = form.kind
    in_path = form.route.parameters
    properties, required = _content(form, own)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": properties[name]}
        for name in in_path
    ]
    rest = {name: schema for name, schema in properties.items() if name not in in_path}
    operation: dict[str, Any] = {
        "operationId": kind.name,
        "summary": (kind.cls.__doc__ or kind.name).strip().splitlines()[0],
        "tags": ["commands" if kind.kind == "command" else "queries"],
        "parameters": parameters,
    }
    if kind.kind == "command":
        key = _header("Idempotency-Key", "the same key gives the first outcome")
        key["schema"] |= {"minLength": 1, "maxLength": KEY_LENGTH_MAX}
        parameters.append(key)
        parameters.append(_header("If-Match", 'only at this version of the target, such as "7"'))
        body = {"type": "object", "properties": rest}
        body["required"] = [name for name in required if name in rest]
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    else:
        parameters.append(
            _header("Headwater-Consistency-Token", "wait until the view has seen this")
        )
        for name, schema in rest.items():
            parameters.append(
                {"name": name, "in": "query", "required": name in required, "schema": schema}
            )
    done = {"description": "done", "content": {"application/json": {"schema": answer}}}
    operation["responses"] = {"200": done, **_failures()}
    return operation


def _failures() -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {
        "4XX": {"description": "refused", "content": problem},
        "5XX": {"description": "failed", "content": problem},
    }


def _own_paths(routes: Sequence[Any], components: dict[str, Any]) -> dict[str, Any]:
    """Return the paths of Litestar handlers, and add their schemas to the components."""
    if not routes:
        return {}
    config = OpenAPIConfig(title="", version="")
    app = Litestar(route_handlers=list(routes), openapi_config=config, logging_config=None)
    text = msgspec.json.encode(app.openapi_schema.to_schema(), enc_hook=str).decode()
    schemas = msgspec.json.decode(text)["components"].get("schemas", {})
    for name in sorted(schemas.keys() & components.keys()):  # of another class, or said otherwise
        own = f"{name}InRoutes"
        text = text.replace(f'"{_REF.format(name=name)}"', f'"{_REF.format(name=own)}"')
    document = msgspec.json.decode(text)
    for name, schema in document["components"].get("schemas", {}).items():
        components[f"{name}InRoutes" if name in components else name] = schema
    paths: dict[str, Any] = document.get("paths") or {}
    for operation in (each for operations in paths.values() for each in operations.values()):
        operation["tags"] = operation.get("tags") or ["routes"]
        responses = operation["responses"]
        for status in [status for status in responses if status[0] in "45"]:
            del responses[status]  # errors have one form here, and it is not Litestar's
        responses.update(_failures())
    return paths


def _content(form: HttpForm, own: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the schemas of a message's members by name, and which are required.

    In HTTP also a message whose JSON is an array elsewhere is an object.
    """
    if own["type"] == "array":
        schemas: list[Any] = own.get("prefixItems", [])
        tags = len(schemas) - len(form.names)  # of tagged structs, the first item
        return dict(zip(form.names, schemas[tags:], strict=True)), list(form.required)
    properties: dict[str, Any] = own.get("properties", {})
    required: list[str] = own.get("required", [])
    if form.tag is not None and form.kind.kind == "query":
        properties = {name: schema for name, schema in properties.items() if name != form.tag[0]}
    return properties, required


def _bound(schema: dict[str, Any]) -> None:
    """State what is checked of whole numbers: 64 bits, unless they are declared `BigInt`."""
    if schema.get("type") == "integer" and "format" not in schema:
        schema["format"] = "int64"
        if "exclusiveMinimum" not in schema:
            schema.setdefault("minimum", INT_MIN)
        if "exclusiveMaximum" not in schema:
            schema.setdefault("maximum", INT_MAX)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            _bound(schema[key])
    for inner in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        _bound(inner)
    for inner in schema.get("properties", {}).values():
        _bound(inner)


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


def swagger_assets() -> Path:
    """Return the folder of Swagger UI's files, from the package that carries them.

    The package is looked up but never imported (it would bring a web framework along).
    """
    spec = importlib.util.find_spec("flask_swagger_ui")
    locations: Iterable[str] = (spec.submodule_search_locations or ()) if spec else ()
    for location in locations:
        return Path(location) / "dist"
    msg = "the package flask-swagger-ui is not installed"
    raise FileNotFoundError(msg)


def openapi_page(title: str) -> str:
    """Return the HTML page that shows the document with Swagger UI, without any other host."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css"></head>
<body><div id="ui"></div><script src="docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "openapi.json", dom_id: "#ui", deepLinking: true}})</script>
</body></html>"""
