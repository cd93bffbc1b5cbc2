"""Full text in SQLite: an FTS5 table beside a view's, which triggers keep.

The words are cut by us; the tokenizer of FTS5 finds spaces between them, and nothing else to do.
"""

# ruff: noqa: S608  # names in SQL are identifiers of Python, quoted; values are bound

from collections.abc import Sequence

from headwater.views.words import Word

_OPTIONS = "words, content = '', contentless_delete = 1, tokenize = 'ascii', detail = none"


def create(name: str, columns: Sequence[str]) -> str:
    """Return what makes a view's table, whose rows keep their numbers, by which FTS5 knows them."""
    key, *others = columns
    return (
        f'CREATE TABLE "{name}" ("~row" INTEGER PRIMARY KEY, {key} TEXT NOT NULL UNIQUE, '
        f"{', '.join(others)})"
    )


def table_name(name: str) -> str:
    """Return what the FTS5 table of a view's table is called."""
    return f"{name}~words"


def keep(name: str) -> list[str]:
    """Return what makes the FTS5 table, and the triggers that keep it."""
    words = f'"{table_name(name)}"'
    add = f'INSERT INTO {words} (rowid, words) VALUES (new."~row", new."~words");'
    remove = f'DELETE FROM {words} WHERE rowid = old."~row";'
    changed, both = 'WHEN old."~words" IS NOT new."~words"', f"{remove} {add}"
    return [
        f"CREATE VIRTUAL TABLE {words} USING fts5({_OPTIONS})",
        f'CREATE TRIGGER "{name}~added" AFTER INSERT ON "{name}" BEGIN {add} END',
        f'CREATE TRIGGER "{name}~removed" AFTER DELETE ON "{name}" BEGIN {remove} END',
        f'CREATE TRIGGER "{name}~changed" AFTER UPDATE ON "{name}" {changed} BEGIN {both} END',
    ]


def condition(name: str) -> str:
    """Return the condition that a row has all words; its value is `asked`."""
    words = f'"{table_name(name)}"'
    return f'"~row" IN (SELECT rowid FROM {words} WHERE {words} MATCH ?)'


def asked(words: Sequence[Word]) -> str:
    """Return words as FTS5 takes them."""
    return " AND ".join(f'"{word.text}"{" *" if word.prefix else ""}' for word in words)
