"""Plain status pages: readable without scripts, styles or images from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;
color:#1d2733;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #d8dee6;
vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;color:#5b6876}code,pre{font:13px ui-monospace,monospace}
.good{color:#12743b}.bad{color:#b3261e}.dim{color:#5b6876}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}
th,td{border-color:#333c46}th,.dim{color:#9aa7b5}.good{color:#5fce8d}.bad{color:#ff8a80}}
"""


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def tag(name: str, content: object, css: str = "") -> Html:
    """Return an element; the content is escaped unless it is `Html`."""
    attribute = f' class="{escape(css)}"' if css else ""
    return Html(f"<{name}{attribute}>{_text(content)}</{name}>")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; cells are escaped unless they are `Html`."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return Html(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>\n")


def document(title: str, *parts: Html) -> str:
    """Return a whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )


def _text(content: object) -> str:
    return content if isinstance(content, Html) else escape(str(content))


__all__ = ["Html", "document", "table", "tag"]
