"""The buses inside one process: routing, interceptors, context."""

from collections.abc import Awaitable
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from headwater.dispatch import CommandMessage, CommandNext, CommandResult, QueryMessage, QueryNext
from headwater.dispatch.interceptors import (
    Validating,
    authorizing,
    in_context,
    intercepts,
    query_in_context,
)
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.errors import DeclarationError, Forbidden, MalformedMessage, UnknownMessage
from headwater.messages import (
    Command,
    ConsistencyToken,
    Metadata,
    Principal,
    Query,
    current,
    handling,
)
from headwater.modelling import query_handler
from headwater.modelling.query_handlers import query_handlers_of


class Deposit(Command):
    account_id: str
    amount: Annotated[int, Meta(gt=0)] = 1


class Withdraw(Command):
    account_id: str


class Audited(Command):
    account_id: str


class Close(Audited):
    pass


class Balance(Query[int]):
    account_id: str


class Holder(Query[str]):
    account_id: str


class Recorder:
    """A handler that keeps what it got, and an interceptor's trace."""

    def __init__(self) -> None:
        self.messages: list[CommandMessage] = []
        self.trace: list[str] = []

    async def handle(self, message: CommandMessage) -> CommandResult:
        self.messages.append(message)
        self.trace.append("handler")
        return CommandResult("7", len(self.messages), "")

    def interceptor(self, name: str) -> Any:
        async def around(message: Any, proceed: Any) -> Any:
            self.trace.append(f"{name} in")
            try:
                return await proceed(message)
            finally:
                self.trace.append(f"{name} out")

        return around


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def test_interceptors_run_outermost_first(recorder: Recorder) -> None:
    """The first interceptor sees the command first and its outcome last."""
    bus = LocalCommandBus(
        [{Deposit: recorder.handle}],
        interceptors=[recorder.interceptor("a"), recorder.interceptor("b")],
    )
    await bus.send(Deposit("7"))
    assert recorder.trace == ["a in", "b in", "handler", "b out", "a out"]


async def test_query_interceptors_run_outermost_first(recorder: Recorder) -> None:
    """The first interceptor sees the query first and its answer last."""

    async def answer(query: Balance) -> int:
        recorder.trace.append(query.account_id)
        return 5

    bus = LocalQueryBus(
        [{Balance: answer}],
        interceptors=[recorder.interceptor("a"), recorder.interceptor("b")],
    )
    assert await bus.ask(Balance("7")) == 5
    assert recorder.trace == ["a in", "b in", "7", "b out", "a out"]


async def test_intercepts_limits_to_types(recorder: Recorder) -> None:
    """An interceptor marked @intercepts sees only messages of the type that it declares."""

    @intercepts
    async def limited(message: CommandMessage[Deposit], proceed: CommandNext) -> CommandResult:
        recorder.trace.append(f"{message.command.amount} in")
        return await proceed(message)

    bus = LocalCommandBus(
        [{Deposit: recorder.handle, Withdraw: recorder.handle}], interceptors=[limited]
    )
    await bus.send(Withdraw("7"))
    assert recorder.trace == ["handler"]
    await bus.send(Deposit("7", 3))
    assert recorder.trace[1:] == ["3 in", "handler"]


async def test_intercepts_a_base_class(recorder: Recorder) -> None:
    """@intercepts of a base class covers its subclasses, of two classes both; of queries, none."""

    @intercepts
    async def audited(message: CommandMessage[Audited], proceed: CommandNext) -> CommandResult:
        recorder.trace.append(f"audited {message.command.account_id}")
        return await proceed(message)

    @intercepts
    async def both(
        message: CommandMessage[Withdraw | Audited], proceed: CommandNext
    ) -> CommandResult:
        recorder.trace.append("both")
        return await proceed(message)

    @intercepts
    async def every(message: CommandMessage, proceed: CommandNext) -> CommandResult:
        recorder.trace.append("every")
        return await proceed(message)

    @intercepts
    async def queries(message: QueryMessage[Balance], proceed: QueryNext) -> Any:
        raise AssertionError

    handlers = dict.fromkeys((Deposit, Withdraw, Close), recorder.handle)
    found: Any = [audited, both, every, queries]
    bus = LocalCommandBus([handlers], interceptors=found)
    for command in (Deposit("7"), Withdraw("7"), Close("7")):
        await bus.send(command)
    expected = [["every"], ["both", "every"], ["audited 7", "both", "every"]]
    assert recorder.trace == [name for each in expected for name in (*each, "handler")]


async def test_intercepts_queries() -> None:
    """An interceptor of one query sees no other."""

    @intercepts
    async def doubled(message: QueryMessage[Balance], proceed: QueryNext) -> Any:
        assert message.query.account_id == "7"
        return 2 * await proceed(message)

    async def balance(_: Balance) -> int:
        return 5

    async def holder(_: Holder) -> str:
        return "Eve"

    bus = LocalQueryBus([{Balance: balance, Holder: holder}], interceptors=[doubled])
    assert (await bus.ask(Balance("7")), await bus.ask(Holder("8"))) == (10, "Eve")


def test_interceptors_that_are_unclear() -> None:
    """What an interceptor is for is said by its first parameter, and by the mark."""

    async def untyped(message: Any, proceed: CommandNext) -> CommandResult:
        return await proceed(message)

    async def of_no_command(message: Any, proceed: CommandNext) -> CommandResult:
        return await proceed(message)

    async def unmarked(message: CommandMessage[Deposit], proceed: CommandNext) -> CommandResult:
        return await proceed(message)

    of_no_command.__annotations__["message"] = CommandMessage[int]  # type: ignore[type-var]  # so
    with pytest.raises(DeclarationError, match="does not say which messages"):
        intercepts(untyped)
    with pytest.raises(DeclarationError, match="which is no Command"):
        intercepts(of_no_command)
    unclear: Any = [unmarked]
    with pytest.raises(DeclarationError, match="would be called for all messages"):
        LocalCommandBus([{Withdraw: unmarked}], interceptors=unclear)


async def test_interceptor_may_change_the_message(recorder: Recorder) -> None:
    """What an interceptor passes on is what the handler gets."""

    async def double(message: CommandMessage, proceed: CommandNext) -> CommandResult:
        assert isinstance(message.command, Deposit)
        changed = msgspec.structs.replace(message.command, amount=message.command.amount * 2)
        return await proceed(msgspec.structs.replace(message, command=changed))

    bus = LocalCommandBus([{Deposit: recorder.handle}], interceptors=[double])
    await bus.send(Deposit("7", 21))
    assert recorder.messages[0].command == Deposit("7", 42)


async def test_interceptor_may_refuse(recorder: Recorder) -> None:
    """When an interceptor raises, neither the handler nor what lies inside is called."""

    async def refuse(_: CommandMessage, __: CommandNext) -> CommandResult:
        raise Forbidden(action="deposit")

    bus = LocalCommandBus(
        [{Deposit: recorder.handle}], interceptors=[refuse, recorder.interceptor("inside")]
    )
    with pytest.raises(Forbidden):
        await bus.send(Deposit("7"))
    assert recorder.trace == []


async def test_key_and_metadata_reach_the_handler(recorder: Recorder) -> None:
    """A command arrives with its idempotency key and fresh metadata."""
    bus = LocalCommandBus([{Deposit: recorder.handle}])
    result = await bus.send(Deposit("7"), idempotency_key="k")
    message = recorder.messages[0]
    assert result == CommandResult("7", 1, "")
    assert message.idempotency_key == "k"
    assert message.metadata.correlation_id == message.metadata.id


async def test_unknown_command_and_query() -> None:
    """What nobody handles is an UnknownMessage that names it."""
    with pytest.raises(UnknownMessage, match="'Deposit'"):
        await LocalCommandBus([]).send(Deposit("7"))
    with pytest.raises(UnknownMessage, match="'Balance'"):
        await LocalQueryBus([]).ask(Balance("7"))


async def test_what_is_handled(recorder: Recorder) -> None:
    """A bus tells what it handles."""

    async def answer(_: Any) -> int:
        return 1

    commands = LocalCommandBus([{Deposit: recorder.handle}])
    queries = LocalQueryBus([{Balance: answer}])
    assert (commands.commands, queries.queries) == ((Deposit,), (Balance,))
    assert commands.handles(Deposit)
    assert not commands.handles(Withdraw)
    assert queries.handles(Balance)
    assert not queries.handles(Holder)


async def test_two_handlers_are_refused(recorder: Recorder) -> None:
    """Two handlers for one message are refused when the bus is made."""

    async def answer(_: Any) -> int:
        return 1

    with pytest.raises(DeclarationError, match="Deposit: has two handlers"):
        LocalCommandBus([{Deposit: recorder.handle}, {Deposit: recorder.handle}])
    with pytest.raises(DeclarationError, match="Balance: has two handlers"):
        LocalQueryBus([{Balance: answer}, {Balance: answer}])


@pytest.mark.parametrize(
    "command", [Deposit("7", 0), Deposit("7", -1), Deposit("7", "5"), Deposit(7)]
)
async def test_validating(recorder: Recorder, command: Deposit) -> None:
    """A command made by the program is held to its types and constraints."""
    bus = LocalCommandBus([{Deposit: recorder.handle}], interceptors=[Validating()])
    await bus.send(Deposit("7", 5))
    with pytest.raises(MalformedMessage, match="command 'Deposit' is malformed"):
        await bus.send(command)
    assert len(recorder.messages) == 1


async def test_validating_what_is_no_json(recorder: Recorder) -> None:
    """A value that has no JSON form is malformed, not a fault of the service."""
    bus = LocalCommandBus([{Deposit: recorder.handle}], interceptors=[Validating()])
    with pytest.raises(MalformedMessage, match="command 'Deposit' is malformed"):
        await bus.send(Deposit(object()))  # type: ignore[arg-type]  # that is the point


async def test_handlers_run_in_the_context_of_their_message(recorder: Recorder) -> None:
    """Behind `in_context`, the message being handled is the current context."""
    seen: list[Metadata] = []

    async def handle(message: CommandMessage) -> CommandResult:
        context = current()
        assert context is not None
        seen.append(context.metadata)
        assert context.metadata is message.metadata
        return CommandResult("7", 1, "")

    async def answer(_: Balance) -> int:
        context = current()
        assert context is not None
        seen.append(context.metadata)
        return 1

    await LocalCommandBus([{Deposit: handle}], interceptors=[in_context]).send(Deposit("7"))
    await LocalQueryBus([{Balance: answer}], interceptors=[query_in_context]).ask(Balance("7"))
    assert len(seen) == 2
    assert current() is None


@pytest.mark.parametrize("is_async", [True, False])
async def test_authorizing(recorder: Recorder, *, is_async: bool) -> None:
    """The authorization hook, sync or async, sees message and who asks, and refuses by raising."""
    asked: list[tuple[Any, Principal]] = []
    itself, eve = Principal(subject="accounts", kind="service"), Principal(subject="eve")

    def decide(message: Command | Query[Any], principal: Principal) -> Awaitable[None] | None:
        asked.append((message, principal))
        if isinstance(message, Withdraw):
            raise Forbidden(action="withdraw")
        return None

    async def decide_async(message: Command | Query[Any], principal: Principal) -> None:
        decide(message, principal)

    hook = authorizing(decide_async if is_async else decide, itself=itself)
    bus = LocalCommandBus(
        [{Deposit: recorder.handle, Withdraw: recorder.handle}], interceptors=[hook]
    )
    about = Metadata(id="1", principal="eve")
    with handling(about, principal=eve):
        await bus.dispatch(CommandMessage(Deposit("7"), about))
    with pytest.raises(Forbidden, match="not allowed: withdraw"):
        await bus.send(Withdraw("7"))
    assert asked == [(Deposit("7"), eve), (Withdraw("7"), itself)]
    assert len(recorder.messages) == 1


async def test_token_reaches_interceptors() -> None:
    """A token given as text or object reaches interceptors decoded; a malformed one is refused."""
    seen: list[ConsistencyToken | None] = []

    async def note(message: QueryMessage, proceed: QueryNext) -> Any:
        seen.append(message.token)
        return await proceed(message)

    async def answer(_: Balance) -> int:
        return 1

    bus = LocalQueryBus([{Balance: answer}], interceptors=[note])
    token = ConsistencyToken.at("accounts", "e", 3)
    for given in (token, token.encode(), None, ""):
        await bus.ask(Balance("7"), token=given)
    assert seen == [token, token, None, None]
    with pytest.raises(MalformedMessage, match="consistency token"):
        await bus.ask(Balance("7"), token="nonsense!")


class Reader:
    @query_handler
    async def balance(self, query: Balance) -> int:
        return len(query.account_id)


class WiderReader(Reader):
    @query_handler
    async def holder(self, query: Holder) -> str:
        return query.account_id


async def test_query_handlers_of_an_object() -> None:
    """The query handlers of an object are found, inherited ones included, bound to it."""
    handlers = query_handlers_of(WiderReader())
    assert handlers.keys() == {Balance, Holder}
    assert await handlers[Balance](Balance("abc")) == 3


def test_query_handler_is_async_with_one_parameter() -> None:
    """A query handler that is not async, or takes more, is refused when it is declared."""

    def sync(self: Any, query: Balance) -> int:
        return 1

    async def two(self: Any, query: Balance, more: int) -> int:
        return 1

    for function in (sync, two):
        with pytest.raises(DeclarationError, match="a query handler is: async def"):
            query_handler(function)  # type: ignore[type-var]  # that is the point


def test_query_handlers_are_annotated_and_single() -> None:
    """A handler must be annotated with a query type that no other handler of the object has."""

    class Vague:
        @query_handler
        async def any(self, query: int) -> int:
            return query

    class Double(Reader):
        @query_handler
        async def again(self, query: Balance) -> int:
            return 1

    for cls in (Vague, Double):
        with pytest.raises(DeclarationError, match="annotate 'query' with a query type of its own"):
            query_handlers_of(cls())
