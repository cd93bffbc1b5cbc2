"""What is sent again after a failure, what never is, and when."""

import asyncio
import time

import pytest
from aiohttp import web

from headwater.client import Request
from headwater.client.answers import error_of
from headwater.errors import (
    CircuitOpen,
    ConnectionLost,
    DeadlineExceeded,
    HeadwaterError,
    Outcome,
    Overloaded,
    StoreUnavailable,
    Unreachable,
)
from headwater.messages import Metadata, handling
from tests.integration.client.conftest import Handler, MakeBackend, MakeCaller, cut, status


def request(method: str = "GET", **options: object) -> Request:
    return Request(method, "/x", **{"service": "shop", "retries": 3, **options})


def fails_first(failure: Handler, times: int = 1) -> Handler:
    left = times

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return await failure(request) if left >= 0 else web.Response(text="ok")

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_lost_connection_unsafe(
    method: str, backend: MakeBackend, caller: MakeCaller
) -> None:
    """A POST or PATCH without a key is never sent twice after its connection broke."""
    servers = [await backend(cut, name=name) for name in "abc"]
    with pytest.raises(ConnectionLost):
        await caller().call(request(method, body=b"{}"))
    assert sum(len(server.seen) for server in servers) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"])
async def test_at_most_once(method: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """Without retries a request arrives once, whatever the method, also over a used connection."""
    server = await backend()
    made = caller()
    assert (await made.call(request(method, retries=0))).status == 200
    server.handler = cut
    with pytest.raises(ConnectionLost):
        await made.call(request(method, retries=0))
    with pytest.raises(ConnectionLost):
        await made.stream(request(method, retries=0))
    assert len(server.seen) == 3


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_status_unsafe(code: int, backend: MakeBackend, caller: MakeCaller) -> None:
    """A POST without a key is never sent twice after an answer that invites to retry."""
    servers = [await backend(status(code), name=name) for name in "abc"]
    assert (await caller().call(request("POST"))).status == code
    assert sum(len(server.seen) for server in servers) == 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("GET", {}),
        ("PUT", {}),
        ("DELETE", {}),
        ("POST", {"headers": {"Idempotency-Key": "k"}}),
        ("POST", {"idempotent": True}),
    ],
)
@pytest.mark.parametrize("failure", [cut, status(502), status(503), status(504)])
async def test_safe(
    failure: Handler,
    method: str,
    options: dict[str, object],
    backend: MakeBackend,
    caller: MakeCaller,
) -> None:
    """Idempotent methods, and anything with an idempotency key, are repeated until they succeed."""
    server = await backend(fails_first(failure, 2))
    reply = await caller().call(request(method, **options))
    assert reply.status == 200
    assert reply.body == b"ok"
    assert len(server.seen) >= 3  # aiohttp itself repeats a GET on a stale connection once


@pytest.mark.parametrize("code", [400, 404, 409, 422, 429, 500, 501])
async def test_final_statuses(code: int, backend: MakeBackend, caller: MakeCaller) -> None:
    """Other statuses are answers; they are not asked for again."""
    server = await backend(status(code))
    assert (await caller().call(request())).status == code
    assert len(server.seen) == 1


async def test_retries_are_bounded(backend: MakeBackend, caller: MakeCaller) -> None:
    """After the last retry the last answer is returned."""
    server = await backend(status(502))
    assert (await caller().call(request(retries=2))).status == 502
    assert len(server.seen) == 3


async def test_other_instance(backend: MakeBackend, caller: MakeCaller) -> None:
    """A retry goes to an instance that was not tried yet."""
    servers = [await backend(fails_first(status(502)), name=name) for name in "ab"]
    reply = await caller().call(request(retries=2))
    assert reply.status == 200
    assert sorted(len(server.seen) for server in servers) == [1, 2]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_refused_connection(method: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """Who refuses connections is passed over at once, whatever the method: nothing was sent."""
    down, up = await backend(name="down"), await backend(name="up")
    await down.stop()
    made = caller()
    replies = [await made.call(request(method, retries=0)) for _ in range(20)]
    assert {reply.instance for reply in replies} == {"up"}
    assert len(up.seen) == 20


def in_turn(*answers: Handler) -> Handler:
    """Answer each time in another way."""
    left = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await left.pop(0)(request)

    return answer


def problem(error: HeadwaterError) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(error.to_problem(), status=error.status)

    return answer


REFUSED = problem(Overloaded(limit=1))
NOT_STORED = problem(StoreUnavailable(store="s", reason="r", outcome="not stored"))
UNKNOWN = problem(StoreUnavailable(store="s", reason="r", outcome="unknown"))
STORED = problem(StoreUnavailable(store="s", reason="r", outcome="stored"))


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ((REFUSED, NOT_STORED), "not stored"),
        ((REFUSED, cut), "unknown"),
        ((cut, REFUSED), "unknown"),
        ((status(504), NOT_STORED), "unknown"),
        ((UNKNOWN, NOT_STORED), "unknown"),
        ((NOT_STORED, UNKNOWN), "unknown"),
        ((cut, STORED), "stored"),
        ((REFUSED, STORED), "stored"),
    ],
)
async def test_the_outcome_is_that_of_all_attempts(
    answers: tuple[Handler, ...], outcome: Outcome, backend: MakeBackend, caller: MakeCaller
) -> None:
    """What an earlier attempt may have stored is not reported as not stored by a later one.

    The answer of another service carries its outcome; a read stores nothing, whatever it says.
    """

    async def told(sent: Request) -> Outcome:
        try:
            reply = await caller().call(sent)
        except HeadwaterError as error:
            return error.outcome
        return error_of(reply, "shop").outcome

    keyed = {"Idempotency-Key": "k"}
    server = await backend(in_turn(*answers))
    assert await told(request("POST", retries=1, headers=keyed)) == outcome
    assert len(server.seen) == 2
    for answer in answers:
        await server.stop()
        server = await backend(in_turn(*[answer] * 4))
        assert await told(request(retries=0)) == "not stored"


async def test_an_attempt_that_was_lost_leaves_doubt(
    backend: MakeBackend, caller: MakeCaller
) -> None:
    """When nobody can be reached after an attempt that was lost, it may still have been stored."""
    stopping: list[asyncio.Task[None]] = []

    async def last(request: web.Request) -> web.StreamResponse:
        stopping.append(asyncio.create_task(server.stop()))
        return await cut(request)

    server = await backend(last)
    with pytest.raises(HeadwaterError) as caught:
        await caller().call(request("POST", headers={"Idempotency-Key": "k"}))
    assert caught.value.outcome == "unknown"
    with pytest.raises(Unreachable) as refused:
        await caller().call(request("POST", headers={"Idempotency-Key": "k"}))
    assert refused.value.outcome == "not stored"
    await asyncio.gather(*stopping)


async def test_nobody_accepts(backend: MakeBackend, caller: MakeCaller) -> None:
    """When no instance accepts connections the error says that nothing was sent."""
    server = await backend()
    await server.stop()
    with pytest.raises(Unreachable, match=f"{server.url} cannot be reached"):
        await caller().call(request("POST"))


@pytest.mark.usefixtures("clock")
async def test_unreachable_url(backend: MakeBackend, caller: MakeCaller) -> None:
    """A call that kept trying to connect says so; only further calls find the circuit open."""
    server = await backend(register=False)
    await server.stop()
    made = caller(patience_s=0.5, eject_after=2)
    for error in (Unreachable, Unreachable, CircuitOpen):
        with pytest.raises(error):
            await made.call(Request("POST", "/x", url=server.url))


@pytest.mark.parametrize("key", ["", " ", "\t "])
async def test_blank_key(key: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """An empty or blank idempotency key is none."""
    server = await backend(cut)
    with pytest.raises(ConnectionLost):
        await caller().call(request("POST", headers={"idempotency-key": key}))
    assert len(server.seen) == 1


async def test_restart_is_survived(backend: MakeBackend, caller: MakeCaller) -> None:
    """A call made while the only instance restarts waits for it, also a POST without retries."""
    server = await backend()
    await server.stop()
    call = asyncio.ensure_future(caller(patience_s=5.0).call(request("POST", retries=0)))
    done, _ = await asyncio.wait([call], timeout=0.1)
    assert not done
    await server.start()
    assert (await call).status == 200
    assert len(server.seen) == 1


async def test_deadline_header_decreases(backend: MakeBackend, caller: MakeCaller) -> None:
    """Each attempt says how much time is left, and that only gets less."""

    async def failing(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.005)  # takes its time, more than the header's resolution
        return web.Response(status=502)

    server = await backend(fails_first(failing, 2))
    await caller().call(request(timeout_s=3.0))
    told = [int(seen.headers["headwater-timeout-ms"]) for seen in server.seen]
    assert 3000 >= told[0] > told[1] > told[2] > 0


async def test_deadline_of_the_context(backend: MakeBackend, caller: MakeCaller) -> None:
    """The deadline of the work that makes the call comes before the call's own time-out."""
    server = await backend(never)
    started = time.monotonic()
    with handling(Metadata(id="1"), deadline=started + 1), pytest.raises(DeadlineExceeded):
        await caller().call(request(timeout_s=60.0, retries=0))
    assert time.monotonic() - started < 5
    assert int(server.seen[0].headers["headwater-timeout-ms"]) <= 1000


async def test_deadline_passed_before(backend: MakeBackend, caller: MakeCaller) -> None:
    """After the deadline nothing is sent any more."""
    server = await backend()
    with handling(Metadata(id="1"), deadline=time.monotonic()), pytest.raises(DeadlineExceeded):
        await caller().call(request())
    assert server.seen == []


async def test_attempts_share_the_time(backend: MakeBackend, caller: MakeCaller) -> None:
    """An attempt that hangs leaves time for the next one, when that is safe."""
    server = await backend(fails_first(never))
    assert (await caller().call(request(timeout_s=2.0, retries=1))).status == 200
    assert len(server.seen) == 2


async def test_unsafe_has_all_the_time(backend: MakeBackend, caller: MakeCaller) -> None:
    """A POST that hangs is abandoned at its time-out and not sent again."""
    server = await backend(never)
    with pytest.raises(DeadlineExceeded, match=r"POST shop/x did not finish within 1\.000 s"):
        await caller().call(request("POST", timeout_s=1.0))
    assert len(server.seen) == 1
    await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_retry_after(backend: MakeBackend, caller: MakeCaller) -> None:
    """The only instance is asked again no earlier than its Retry-After says."""
    server = await backend(fails_first(status(503, **{"Retry-After": "1"})))
    started = time.monotonic()
    assert (await caller().call(request())).status == 200
    assert time.monotonic() - started >= 1.0
    assert len(server.seen) == 2


@pytest.mark.parametrize("asked", ["60", "Fri, 31 Dec 2100 23:59:59 GMT"])
async def test_retry_after_too_long(asked: str, backend: MakeBackend, caller: MakeCaller) -> None:
    """A Retry-After beyond the bound is passed on instead of waited for."""
    server = await backend(status(503, **{"Retry-After": asked}))
    started = time.monotonic()
    assert (await caller().call(request(timeout_s=3600))).status == 503
    assert time.monotonic() - started < 5
    assert len(server.seen) == 1


async def test_retry_after_elsewhere(backend: MakeBackend, caller: MakeCaller) -> None:
    """Another instance is asked without that wait, and the first one is left alone until then."""
    tired = await backend(status(503, **{"Retry-After": "5"}), name="tired")
    awake = await backend(name="awake")
    made = caller()
    started = time.monotonic()
    replies = [await made.call(request()) for _ in range(20)]
    assert {reply.status for reply in replies} == {200}
    assert time.monotonic() - started < 4
    assert len(tired.seen) <= 1
    assert len(awake.seen) == 20
