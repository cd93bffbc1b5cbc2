"""The view store port: read models, and the tracking tokens that commit together with them.

Views are keyed documents with declared indexes. Everything a processor does to its views and its
token happens in one transaction, so an event's effect is there exactly once. Whoever shares a
view store shares the work on it; whoever has its own has its own full copy.

The views of a processor have generations. Each belongs to the code that fills it: programs of
several versions each have their own, side by side. Of one code readers see the active generation;
a rebuild fills the next one beside it and then makes it active.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import msgspec

from headwater.messages import Textual
from headwater.views.conditions import Where
from headwater.views.model import ReadModel, View
from headwater.views.sql_tables import SqlTable

V = TypeVar("V", bound=View)
C = TypeVar("C")


LEASE_S_MAX = 3600.0
"""The longest lease; one that ends later than that was given by a clock that was wrong."""


class ViewPage(msgspec.Struct, frozen=True):
    """Some views in order.

    Attributes:
        items: the views.
        next: the cursor of the following page, empty at the end.
        total: how many there are on all pages, at the time of this one; None: nobody asked.
    """

    items: list[Any]
    next: str = ""
    total: int | None = None


class Segment(msgspec.Struct, frozen=True):
    """One share of a processor's work.

    Attributes:
        processor: the processor's name.
        generation: the generation of its views that the token belongs to.
        index, count: this is share ``index`` of ``count``.
        token: how far it has come; opaque to the store (the processor's own JSON text).
        owner: who holds the claim, empty when nobody does.
        lease_until: when the claim ends by the store's clock, seconds since 1970 UTC.
        fence: rises with every change of owner, also over a `ViewStore.drop_generation`.
    """

    processor: str
    generation: int
    index: int
    count: int
    token: str
    owner: str = ""
    lease_until: float = 0.0
    fence: int = 0

    def is_held(self, now: float) -> bool:
        """Whether somebody holds it at a time of the store's clock."""
        return self.owner != "" and now < self.lease_until <= now + LEASE_S_MAX


class Generation(msgspec.Struct, frozen=True):
    """One generation of a processor's views.

    Attributes:
        processor: the processor's name.
        number: from 1; among those of the processor, and of its views, no other has it.
        code: whose it is: a text that tells programs apart which make other views of the same
            events. Empty for who does not say, and for what an earlier release has left.
        complete: it has been made active, so it shows what its readers may rely on.
        used: when somebody last said that they use it, seconds since 1970 UTC.
    """

    processor: str
    number: int
    code: str = ""
    complete: bool = False
    used: float = 0.0


class Sql(Protocol):
    """SQL in one transaction, on an author's own tables as they are in one generation.

    Statements say ``$1``, ``$2`` and so on where values go, whatever the database. Any method
    raises `StoreError` outside of the block that it is for, and what it raises for the database is
    `StoreUnavailable` when that is away, else `StoreError`: nothing more can be done then in this
    transaction, which will be rolled back.
    """

    @property
    def engine(self) -> str:
        """Which kind of database it is: ``sqlite`` or ``postgres``, or what another engine says."""

    def table(self, table: type[SqlTable]) -> str:
        """Return the name of a table in this generation, as it goes into statements.

        Raises:
            ConfigurationError: it is none of those that were asked for.
        """

    def connection(self, driver: type[C]) -> C:
        """Return the driver's connection, in its transaction; for whatever is not offered here.

        Args:
            driver: its class, which says what the caller expects: ``apsw.Connection`` or
                ``asyncpg.Connection``.

        The transaction is not the caller's to end: a COMMIT fails, and after a ROLLBACK the block
        raises `StoreError`, and has stored nothing but what came after that. Savepoints are fine.

        Raises:
            ConfigurationError: the database has another driver.
        """

    async def execute(self, statement: str, *values: Any) -> None:
        """Carry out one statement; one that begins or ends a transaction is refused."""

    async def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""


class ViewTransaction(Protocol):
    """Work on views and tokens that is committed as one, or not at all.

    Only for use inside the block that began it, one call at a time. Documents that it returns
    are copies: a change to one is stored by `save`. Methods of the store that write (also claims)
    wait for the block to end; called inside it by its own task they raise `StoreError`.

    Any method raises `ConfigurationError` when the generation of a view type is not in the store
    (nobody ensured it, or another process has activated a newer one and dropped it). `save` and
    `delete` may be carried out later in the block, in their order; what the database objects to
    is then raised by a later call or at the end of the block.
    """

    async def load(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """Return those of the keys that exist, as they are in this transaction."""

    async def save(self, views: Sequence[View]) -> None:
        """Insert or replace documents by their key; of the same key twice the last one counts.

        Raises:
            Unstorable: a document would not come back as the same (a number that is infinite or
                none, or whole and of more than 64 bits; a value that is not of the declared
                type); none of these was saved.
        """

    async def delete(self, view: type[View], keys: Sequence[Textual]) -> None:
        """Remove documents; keys that do not exist are ignored."""

    async def find(
        self,
        view: type[V],
        *,
        where: Where | None = None,
        matching: str = "",
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
        include_total: bool = False,
    ) -> ViewPage:
        """As `ViewStore.find`, seeing this transaction's own changes."""

    async def sql(self, *tables: type[SqlTable]) -> Sql:
        """Return what runs SQL in this transaction, which commits or goes with all else in it.

        What was saved and deleted before is there. Each table is that of the generation that the
        transaction works on; without one it is that of the active generation.

        Raises:
            ConfigurationError: the store has no SQL (it is in memory); see also above.
        """

    async def check(self) -> None:
        """Raise what the block would raise at its end, because of what was done so far.

        So who calls it after each of several authors knows who it was.
        """

    async def advance(self, segments: Sequence[Segment], token: str) -> None:
        """Set the token of claimed segments.

        A claim counts as long as nobody else has taken the segment, even after its lease.

        Raises:
            ClaimLost: a segment's fence has risen, the claim was given back, or the segment is
                not there any more; the whole transaction will be rolled back, and its block
                raises this at its end even if the caller catches it here.
        """

    async def segments(self, processor: str, *, generation: int) -> list[Segment]:
        """Return the segments of a generation, by index, as they are in this transaction.

        Nobody else moves their tokens or takes their claims before the block ends.
        """

    async def replace_segments(self, segments: Sequence[Segment]) -> None:
        """Put these in the place of all segments of their generation: a split, or a merge.

        Tokens, owners and leases are stored as given. The fences are set here, above those of
        the former segments: whoever held one of these has lost it, also one of the same index
        and count, and may take a new one that was stored in its name with ``restarted``.

        Raises:
            InvalidInput: these are not all shares of one generation of one processor.
            ClaimLost: the generation has no segments (it was dropped); as for `advance`.
        """


class ViewStore(Protocol):
    """Documents of several view types, tokens and claims, in one database.

    Any method raises `StoreUnavailable` when the database cannot be reached, stays locked or was
    closed, and `DiskFull` when there is no room. Nothing is stored then, unless the outcome of the
    error is unknown, and the store can be used again when the cause is gone. Reads see committed
    data only, and all of a commit or none.

    Keys are text: one that is a number, a UUID and so on is stored, asked for and returned as its
    canonical text (see `headwater.messages.canonical_text`); None is the key of no document.
    Indexed values are ordered None first, then by value: numbers, truth values (False first),
    dates, datetimes by their instants, decimals (1.0 equals 1.00), timedeltas; text, UUIDs and
    members of an Enum of texts by code points.
    """

    async def ensure(
        self,
        views: Sequence[ReadModel],
        *,
        generation: int | None = None,
        processor: str = "",
    ) -> None:
        """Make room for view types (tables, indexes).

        What is there already stays. All of the types or none. No room is made in a generation that
        was dropped, because a later one was activated or nobody used it.

        Args:
            views: the types, of documents and of tables.
            generation: in which; None: in the active one of each type.
            processor: whose views they are. The active generation of a type that is new becomes
                that of its processor, which may have been rebuilt before.

        Raises:
            ConfigurationError: the stored form of a view type has other indexes or another key, or
                a table another declaration; rebuild the projection into a new generation. The
                database refuses to make a table, or the store has no SQL.
        """

    async def get(self, view: type[V], key: Textual, *, generation: int = 0) -> V | None:
        """Return one document of a generation; 0: of the active one, whoever's code filled it.

        Raises:
            ConfigurationError: nobody ensured the view type, or the generation is not there.
            ViewUnreadable: the stored document does not fit the class any more: rebuild it.
        """

    async def get_many(
        self, view: type[V], keys: Sequence[Textual], *, generation: int = 0
    ) -> dict[str, V]:
        """Return those of the keys that exist (see `get`)."""

    async def find(
        self,
        view: type[V],
        *,
        where: Where | None = None,
        matching: str = "",
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
        include_total: bool = False,
        generation: int = 0,
    ) -> ViewPage:
        """Find documents by index.

        Paging by cursor goes by value and key, not by number: documents stored or removed
        between two pages neither repeat nor hide others.

        Args:
            view: the view type.
            where: for each indexed field (or the key) a value, a `Range`, `In` or `Prefix`; all
                must hold. Or `AnyOf` several of these.
            matching: words that a document has in its full text, each of them, in any order; one
                with a ``*`` behind it is the beginning of a word. Case and accents do not count.
            order_by: an indexed field, or empty for the key; ties are in order of the key.
            descending: from the largest; also among ties.
            limit: how many at most, 1 to 10,000.
            cursor: ``next`` of the page before.
            include_total: whether to count all that is found, which takes time with its number.
            generation: see `get`.

        Raises:
            InvalidInput: a field is not indexed, a value is not of the type of its index, there is
                no full text or no word, the limit is out of range, or the cursor is not from this
                query.
        """

    async def count(
        self,
        view: type[View],
        *,
        where: Where | None = None,
        matching: str = "",
        generation: int = 0,
    ) -> int:
        """Return how many documents match (see `find`)."""

    def sql(
        self, *tables: type[SqlTable], generations: Mapping[str, int] | None = None
    ) -> AbstractAsyncContextManager[Sql]:
        """Begin to read with SQL; all statements of the block see the same committed state.

        Keep the block short: a generation whose tables it reads is not dropped before its end.

        Args:
            tables: what is read.
            generations: see `transaction`.

        Raises:
            ConfigurationError: the store has no SQL (it is in memory), or nobody ensured a table.
            StoreError: a statement would change something; see also `Sql`.
        """

    def transaction(
        self, *, generations: Mapping[str, int] | None = None, synced: bool = False
    ) -> AbstractAsyncContextManager[ViewTransaction]:
        """Begin; commits at the end of the block, rolls back when it raises or is cancelled.

        ``generations`` says by view name which generation to work on (default: the active one).
        Transactions of one store do not overlap: keep the block short. Those of several processes
        do not overlap either, or they wait for each other's segments and loaded documents only
        (PostgreSQL); a document that each of two wants to make is made by one, and the other ends
        with `StoreUnavailable`, to be begun again.

        Durable against the death of the process when the block has ended. After the death of the
        machine the store may be as it was after an earlier commit: documents and tokens belong
        together, so processors just read on from there. With ``synced`` it is durable against
        that too, with all commits before it: for what others are told of as soon as the block
        ends, and what would not come out the same when it is done again.

        Once it is known that the commit is stored, the block ends well, whatever happens to the
        connection or the file then; if its answer is lost, the store finds out what became of it.

        Cancellation: during the commit itself, the block ends after it, and all is stored.

        Raises:
            ClaimLost: see `ViewTransaction.advance`; nothing was stored.
            StoreUnavailable: its outcome says whether it is known that nothing was stored. If it is
                unknown, the claims whose tokens were set count as lost here: whoever claims the
                segments anew reads the tokens anew.
        """

    async def generation(self, processor: str, *, code: str = "") -> int:
        """Return the active generation of a processor's views: the newest that is complete.

        Of a code, if that has any, else of all. While none is complete it is the oldest one; 1 if
        there is none at all.
        """

    async def generations(self, processor: str = "") -> list[Generation]:
        """Return what is known of the generations of a processor, or of all; in order."""

    async def settle_generation(self, processor: str, code: str, views: Sequence[ReadModel]) -> int:
        """Return the generation that programs of a code begin with, the same one to all.

        The active one of the code, if it has any. Else one without a code, which an earlier
        release has left, becomes that of this code, if it has room for all these views as they
        are declared. Else it is a new one; nobody has had its number.
        """

    async def next_generation(
        self, processor: str, code: str, views: Sequence[ReadModel], *, after: int
    ) -> int:
        """Return the generation of a code that follows another one, a new one if there is none."""

    async def use_generation(self, processor: str, generation: int) -> None:
        """Say that a generation is used; see `drop_unused`. Ignored if it is not there."""

    async def drop_unused(self, processor: str, *, code: str, idle_s: float) -> list[int]:
        """Remove the generations of other codes that nobody uses any more; return which.

        Those that nobody has said to use for ``idle_s``, by the clock of leases, and of which
        nobody holds a segment. None as long as no generation of ``code`` is complete; an empty code
        is none, so all of a processor can go that is not there any more.
        """

    async def activate(
        self, processor: str, generation: int, views: Sequence[ReadModel], *, code: str = ""
    ) -> None:
        """Make a generation the active one of its code in one step; drop the older ones of it.

        Their documents and segments are removed, so that whoever still works on them fails. Those
        of other codes stay: see `drop_unused`. ``code`` is whose it is if that is not known yet:
        somebody dropped it while it was being filled.

        Raises:
            ConfigurationError: the generation of a view type is not there: `ensure` it first.
            InvalidInput: a later one of the code is active; active generations only rise.
        """

    async def drop_generation(
        self, processor: str, generation: int, views: Sequence[ReadModel]
    ) -> bool:
        """Remove a generation that is not active, its documents and its segments.

        Returns whether it is gone: nothing is removed while somebody holds one of the segments.
        What is not there is ignored.

        Raises:
            InvalidInput: it is the active one of its code.
        """

    async def open_segments(
        self, processor: str, *, count: int, token: str, generation: int
    ) -> list[Segment]:
        """Return the processor's segments of a generation, by index.

        They are made with this token if there are none yet; else they are returned as they are,
        even if they are more or fewer than ``count``. All of a generation are of one count, at
        any time (see `ViewTransaction.replace_segments`). None are made for a generation that was
        dropped (see `ensure`).
        """

    async def segments(self, processor: str = "") -> list[Segment]:
        """Return the segments of one processor, or of all, with their claims.

        Of all generations; ordered by processor, generation and index.
        """

    async def now(self) -> float:
        """Return the time of the store's clock, by which leases end: seconds since 1970 UTC.

        It is one for all who share the store, and no clock of theirs that is set anew moves it.
        """

    async def claim(
        self, segment: Segment, *, owner: str, lease_s: float, restarted: bool = False
    ) -> Segment | None:
        """Take a segment that nobody holds (or whose lease has ended), with a risen fence.

        ``lease_s`` is at most `LEASE_S_MAX`; a lease that is longer counts as ended.

        ``restarted`` also takes one that somebody of the same name holds, whatever its lease: for
        a process that has just started, so that a claim of this name is left from its former
        life. Should that one still live, it finds its claim lost (the fence has risen).

        Returns the claimed segment with its present token, or None when somebody holds it (also
        somebody of the same name, unless ``restarted``) or it does not exist any more. A segment
        that a running transaction moves on is held, whatever its lease: a store whose
        transactions overlap answers without waiting for its end.
        """

    async def renew(self, segments: Sequence[Segment], *, lease_s: float) -> list[Segment]:
        """Prolong claims from now; return those that are still ours, as they are now.

        A claim whose lease has ended is still ours as long as nobody has taken it.
        """

    async def release(self, segments: Sequence[Segment]) -> None:
        """Give claims back; those that are not ours any more are ignored."""

    async def reset(self, processor: str, *, token: str, generation: int) -> None:
        """Set the token of all segments of a generation and raise their fences (for a replay).

        Claims on them end at once, so that anybody can claim them without waiting.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yield once at the start and then soon after each commit, by any process.

        Several commits may give one yield, and now and then there is one without a commit: look
        for yourself. Woken within milliseconds, without polling. Ends when the store is closed.
        """

    async def owner(self) -> str:
        """Return the service that this is the view store of; empty when that was never settled."""

    async def settle_owner(self, service: str) -> str:
        """Store whose view store this is, once and for all; return the service that is stored now.

        What was settled before stays.

        Atomicity: in one step that no other settling can come between.

        Cancellation: settled, or not.
        """

    async def close(self) -> None:
        """Release everything. Twice is fine."""
