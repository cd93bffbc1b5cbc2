"""Views: read models and tracking tokens, in one transaction."""

from headwater.views.api import Generation, Segment, Sql, ViewPage, ViewStore, ViewTransaction
from headwater.views.conditions import AnyOf, In, Prefix, Range, Where
from headwater.views.engine import ViewStoreEngine
from headwater.views.model import Index, Key, ReadModel, View, ViewType, view_type
from headwater.views.sql_tables import SqlTable
from headwater.views.words import FullText

__all__ = [
    "AnyOf",
    "FullText",
    "Generation",
    "In",
    "Index",
    "Key",
    "Prefix",
    "Range",
    "ReadModel",
    "Segment",
    "Sql",
    "SqlTable",
    "View",
    "ViewPage",
    "ViewStore",
    "ViewStoreEngine",
    "ViewTransaction",
    "ViewType",
    "Where",
    "view_type",
]
