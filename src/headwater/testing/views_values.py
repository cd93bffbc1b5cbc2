"""Odd values, kept or refused alike by every store: a part of the view store suite."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import pytest

from headwater.errors import InvalidInput, Unstorable, ViewUnreadable
from headwater.messages import BigInt
from headwater.testing.views_base import Person, ViewStoreSuite, other_form, save
from headwater.views import Index, Key, Range, View, ViewStore


class Inner(msgspec.Struct):
    """A part of a document."""

    count: Annotated[int, msgspec.Meta(ge=0)] = 0


class InnerMost(Inner):
    """A part that has more than its declared type says."""

    more: int = 0


class Odd(View):
    """A document with fields of every kind, indexed or not."""

    id: Annotated[str, Key]
    text: Annotated[str, Index] = ""
    whole: Annotated[int, Index] = 0
    real: Annotated[float, Index] = 0.0
    note: str = ""
    total: int = 0
    ratio: float | None = None
    large: BigInt = 0
    free: Any = None
    inner: Inner = msgspec.field(default_factory=Inner)
    ratios: list[float] = msgspec.field(default_factory=list)
    counts: dict[str, int] = msgspec.field(default_factory=dict)


TEXTS = [
    "", "\0", "a\0b", "\0\0", "\1", "\1\2", "\1\1", " ", "\x7f", "%", "'", '"', "\\",
    "a\\u0000", "null", "1", "\u2028", "e\u0301", "\xe9", "\ufffd", "\uffff", "\U0001f600",
    "x" * 1000, "\U0001f600" * 250, "\0\1" * 250,
]  # fmt: skip
WHOLES = [-(2**63), -(2**53) - 1, -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1]
REALS = [
    -1.7976931348623157e308,
    -0.5,
    -5e-324,
    0.0,
    5e-324,
    0.1,
    1.0,
    1e22,
    1.7976931348623157e308,
]
INFINITE, NONE = float("inf"), float("nan")

REFUSED: list[tuple[str, Any, str]] = [  # a field, a value, and what is said of it
    ("whole", 2**63, "whole is 9223372036854775808, which has more than 64 bits"),
    ("whole", -(2**63) - 1, "whole is -9223372036854775809, which has more than 64 bits"),
    ("total", 2**64, "total is 18446744073709551616, which has more than 64 bits"),
    ("free", [{"a": 2**63}], r"free\[0\]\['a'\] is 9223372036854775808, which has more"),
    ("counts", {"b": 2**63}, r"counts\['b'\] is 9223372036854775808, which has more"),
    ("real", INFINITE, "real is inf, which has no form in JSON"),
    ("real", NONE, "real is nan, which has no form in JSON"),
    ("ratio", INFINITE, "ratio is inf, which has no form in JSON"),
    ("ratio", NONE, "ratio is nan, which has no form in JSON"),
    ("ratios", [1.0, INFINITE], r"ratios\[1\] is inf, which has no form in JSON"),
    ("free", {"a": [INFINITE]}, r"free\['a'\]\[0\] is inf, which has no form in JSON"),
    ("text", 5, "text is 5, which could not be read back"),
    ("text", None, "text is None, which could not be read back"),
    ("note", b"x", r"note is b'x', which would come back as 'eA=='"),
    ("note", "a\ud800", "note is .*, which has no form in JSON"),
    ("whole", "7", "whole is '7', which could not be read back"),
    ("whole", 7.0, "whole is 7.0, which could not be read back"),
    ("whole", True, "whole is True, which could not be read back"),
    ("counts", {1: 2}, r"counts key 1 is 1, which would come back as '1'"),
    ("inner", Inner(-1), "inner.count is -1, which could not be read back"),
    (
        "inner",
        InnerMost(1, more=2),
        r"inner is InnerMost.*, which would come back as Inner\(count=1\)",
    ),
    ("id", "\U0001f600" * 251, r"id is '.*'..., which has 1004 bytes, and an index takes 1000"),
    ("text", "x" * 1001, r"text is 'x*'..., which has 1001 bytes, and an index takes 1000"),
    ("text", "\0" * 501, r"text is '.*'..., which has 1002 bytes"),
    ("free", 5j, "free is 5j, which has no form in JSON"),
]


class ViewValues(ViewStoreSuite):
    """Odd values."""

    async def test_odd_text_is_kept_found_and_ordered(self, store: ViewStore) -> None:
        """Any text is a key and an indexed value: found as it is, ordered by code points."""
        await store.ensure([Odd])
        documents = {text: Odd(text, text, note=text, free=[text]) for text in TEXTS}
        await save(store, *documents.values())
        for text, document in documents.items():
            assert await store.get(Odd, text) == document
            for where in ({"id": text}, {"text": text}, {"text": Range(text, text)}):
                assert (await store.find(Odd, where=where)).items == [document]
                assert await store.count(Odd, where=where) == 1
        assert await store.get_many(Odd, TEXTS) == documents
        for field in ("id", "text"):
            await self._check_order(store, field, sorted(TEXTS), TEXTS)
        async with store.transaction() as work:
            assert await work.load(Odd, TEXTS) == documents
            await work.delete(Odd, TEXTS)
        assert await store.count(Odd) == 0

    @pytest.mark.parametrize(
        ("field", "values"),
        [("whole", WHOLES), ("real", REALS)],
    )
    async def test_odd_numbers_are_kept_found_and_ordered(
        self, store: ViewStore, field: str, values: Sequence[Any]
    ) -> None:
        """Numbers come back as they are, up to the largest, and are found and ordered by value."""
        await store.ensure([Odd])
        ids = [f"{n:02}" for n in range(len(values))]
        documents = [Odd(id, **{field: v}) for id, v in zip(ids, values, strict=True)]
        await save(store, *reversed(documents))
        assert [await store.get(Odd, id) for id in ids] == documents
        for id, value in zip(ids, values, strict=True):
            found = (await store.find(Odd, where={field: value})).items
            assert id in [document.id for document in found]
            assert {getattr(document, field) for document in found} == {value}
        ordered = (await store.find(Odd, order_by=field)).items
        assert [getattr(document, field) for document in ordered] == list(values)
        await self._check_order(store, field, [d.id for d in ordered], ids)

    async def test_a_negative_zero_is_a_zero(self, store: ViewStore) -> None:
        """-0.0 comes back as it is, and is found and ordered like 0.0."""
        await store.ensure([Odd])
        await save(store, Odd("a", real=0.0), Odd("b", real=-0.0), Odd("c"))
        kept = await store.get(Odd, "b")
        assert str(kept and kept.real) == "-0.0"
        for zero in (0, 0.0, -0.0):
            found = (await store.find(Odd, where={"real": zero})).items
            assert [document.id for document in found] == ["a", "b", "c"]

    @pytest.mark.parametrize(("field", "value", "told"), REFUSED)
    async def test_what_cannot_be_read_back_is_refused(
        self, store: ViewStore, field: str, value: Any, told: str
    ) -> None:
        """Such a document is refused, naming type, field and value, and nothing with it saved."""
        await store.ensure([Odd])
        await save(store, Odd("before"))
        async with store.transaction() as work:
            await work.save([Odd("kept")])
            with pytest.raises(
                Unstorable, match=f"view 'Odd' cannot be stored: its {told}"
            ) as caught:
                await work.save(
                    [Person("other"), Odd("with it"), Odd(**{"id": "bad", field: value})]
                )
            assert caught.value.outcome == "not stored"
            await work.save([Odd("after")])
        assert [odd.id for odd in (await store.find(Odd)).items] == ["after", "before", "kept"]
        assert await store.count(Person) == 0

    async def test_what_comes_back_as_the_same_is_kept(self, store: ViewStore) -> None:
        """A tuple for a list, a whole number for a float, and `Any` as JSON has it, are kept."""
        await store.ensure([Odd])
        odd: dict[str, Any] = {"ratios": (1, 2.5), "free": (1, {"a": (2,)}, {3: 4})}
        await save(store, Odd("a", real=5, large=2**70, **odd), Odd("b", real=2**63))
        kept = await store.get(Odd, "a")
        as_read: dict[str, Any] = {"ratios": [1.0, 2.5], "free": [1, {"a": [2]}, {"3": 4}]}
        assert kept == Odd("a", real=5.0, large=2**70, **as_read)
        assert (await store.find(Odd, where={"real": 5})).items == [kept]
        assert (await store.find(Odd, where={"real": 2**63})).items == [Odd("b", real=2.0**63)]

    async def test_text_that_is_none_is_refused(self, store: ViewStore) -> None:
        """A key or a value to look for that has a lone surrogate is `InvalidInput`."""
        await store.ensure([Odd])
        no_text = "a\ud800"
        for use in (
            lambda: store.get(Odd, no_text),
            lambda: store.get_many(Odd, ["a", no_text]),
            lambda: store.get_many(Odd, [no_text] * 50),
            lambda: store.find(Odd, where={"id": no_text}),
            lambda: store.find(Odd, where={"text": Range(no_text)}),
            lambda: store.count(Odd, where={"text": no_text}),
            lambda: self._work(store, "load", no_text),
            lambda: self._work(store, "delete", no_text),
        ):
            with pytest.raises(InvalidInput):
                await use()
        await save(store, Odd("after"))
        assert await store.count(Odd) == 1

    async def test_any_number_can_be_looked_for(self, store: ViewStore) -> None:
        """Numbers that no field can hold are compared with those that are there."""
        await store.ensure([Odd])
        await save(store, Odd("a", whole=2**63 - 1, real=1.5))
        for field in ("whole", "real"):
            for large in (2**64, 10**400, INFINITE):
                assert await store.count(Odd, where={field: large}) == 0
                assert await store.count(Odd, where={field: Range(least=large)}) == 0
                assert await store.count(Odd, where={field: Range(-large, large)}) == 1
            assert await store.count(Odd, where={field: NONE}) == 0
            assert await store.count(Odd, where={field: Range(least=NONE)}) == 0

    async def test_an_unreadable_document_says_which(self, store: ViewStore) -> None:
        """A stored document that does not fit its class is told by view and key, with a remedy."""
        before = other_form("Odd", id=Annotated[str, Key], text=str, whole=str)
        await store.ensure([before])
        await save(store, before("a\0", "", "many"))
        after = other_form("Odd", id=Annotated[str, Key], text=str, whole=int)
        for read in (
            lambda: store.get(after, "a\0"),
            lambda: store.get_many(after, ["a\0"]),
            lambda: store.find(after),
            lambda: self._work(store, "load", "a\0", view=after),
        ):
            with pytest.raises(ViewUnreadable, match=r"stored Odd .* rebuild the proj") as caught:
                await read()
            assert (caught.value.view, caught.value.key) == ("Odd", "a\0")

    async def _work(self, store: ViewStore, method: str, key: str, *, view: Any = Odd) -> None:
        async with store.transaction() as work:
            await getattr(work, method)(view, [key])

    async def _check_order(
        self, store: ViewStore, field: str, expected: Sequence[str], keys: Sequence[str]
    ) -> None:
        """Check the order of all documents, page by page, forwards and backwards."""
        assert sorted(keys) == sorted(expected)
        for descending in (False, True):
            found, cursor = [], ""
            while True:
                page = await store.find(
                    Odd, order_by=field, descending=descending, limit=3, cursor=cursor
                )
                found += [document.id for document in page.items]
                cursor = page.next
                if not cursor:
                    break
            assert found == list(reversed(expected) if descending else expected)
