"""The configuration service's overview page: files, what is refused, values without secrets."""

from headwater._http.page import Html, document, table, tag
from headwater.config.repository import Repository, ServedFile
from headwater.config.tree import MASK, dotted, is_secret, leaves


def render(repository: Repository, *, watchers: int) -> str:
    """Return the page as HTML."""
    errors = repository.errors()
    files = repository.files()
    change = f", change {repository.state.change}" if repository.state.change else ""
    parts = [tag("p", f"{len(files)} files in {repository.name}{change}; {watchers} watchers.")]
    if errors:
        parts.append(tag("h2", "Refused"))
        parts.append(tag("p", "The last good content is served until these are corrected."))
        rows = [[tag("code", name), tag("span", why, "bad")] for name, why in errors.items()]
        parts.append(table(["what", "why"], rows))
    parts.extend(_file(file) for file in files)
    if not files:
        parts.append(tag("p", "No settings files yet: add application.yml.", "dim"))
    parts.append(tag("p", "Effective configuration: /v1/config/{app}/{profiles}", "dim"))
    return document("Headwater configuration", *parts)


def _file(file: ServedFile) -> Html:
    heading = tag("h2", file.name)
    if file.document is None:
        return Html(heading + tag("p", file.error, "bad"))
    content = file.document
    rows = []
    for path, value in leaves(content.tree):
        if not path:
            continue
        key = dotted(path)
        shown = MASK if is_secret(path) and value is not None else value
        rows.append([tag("code", key), tag("code", shown), content.lines.get(key, "-")])
    return Html(heading + table(["key", "value", "line"], rows))


__all__ = ["render"]
