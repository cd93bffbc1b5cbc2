"""What a declaration notes on a method, for whoever looks at the class later."""

import msgspec

from headwater.messages.keys import KeyOf
from headwater.views import View

MARK = "__headwater_event_handler__"


class Marks(msgspec.Struct, frozen=True):
    """What `event_handler` noted on a method; without a view it is a free-form handler."""

    view: type[View] | None = None
    key: str | KeyOf = ""
    deletes: bool = False
    replay: bool = True
