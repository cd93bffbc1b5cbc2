"""Views: read models and tracking tokens, in one transaction."""

from headwater.views.api import Generation, Range, Segment, ViewPage, ViewStore, ViewTransaction
from headwater.views.engine import ViewStoreEngine
from headwater.views.model import Index, Key, View, ViewType, view_type

__all__ = [
    "Generation",
    "Index",
    "Key",
    "Range",
    "Segment",
    "View",
    "ViewPage",
    "ViewStore",
    "ViewStoreEngine",
    "ViewTransaction",
    "ViewType",
    "view_type",
]
