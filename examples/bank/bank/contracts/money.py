"""Money is counted in whole cents."""

from typing import Annotated

from msgspec import Meta

Cents = Annotated[int, Meta(ge=0, description="US cents")]
