"""Connections that are encrypted, and passwords that nobody reads."""

import trustme

from headwater.bridges import AmqpPublisher, AmqpQueue
from tests.integration.bridges.peer import Peer, event, until
from tests.integration.bridges.test_listener import shipped
from tests.integration.bridges.test_publisher import place, published
from tests.integration.bridges.warehouse import orders, warehouse

SECRET = "s3cr3t-w0rd"


async def test_a_wrong_password_is_in_no_message(peer, run, capsys, caplog):
    """Who is not let in hears why, and reads no password in log, status and concerns."""
    caplog.set_level("DEBUG")
    await peer.make()
    url = peer.broker.amqp_url.replace("guest:guest", f"guest:{SECRET}")
    sender = await run(orders(AmqpPublisher(peer.exchange)), peer, amqp=url)
    receiver = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer, amqp=url)
    await place(sender, 1)
    for runtime in (sender, receiver):
        [bridge] = runtime.processors._bridges
        await until(lambda bridge=bridge: "ACCESS_REFUSED" in bridge.failure)
        told = f"{bridge.failure} {await runtime.processors.concerns()} {await bridge.status()}"
        assert SECRET not in told
    printed = capsys.readouterr()
    assert "ACCESS_REFUSED" in printed.out + printed.err
    assert SECRET not in printed.out + printed.err + caplog.text


async def test_tls(own_rabbitmq, run, tmp_path):
    """With ``amqps`` the broker's certificate is checked; who has no trust in it does not talk."""
    authority = trustme.CA()
    own_rabbitmq.encrypt(authority)
    own_rabbitmq.stop()
    own_rabbitmq.start()
    cafile = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(cafile))
    peer = Peer(own_rabbitmq)
    await peer.make()
    trusting = f"{own_rabbitmq.amqps_url}?cafile={cafile}"
    sender = await run(orders(AmqpPublisher(peer.exchange)), peer, amqp=trusting)
    receiver = await run(warehouse(AmqpQueue(peer.queue, peer.dead)), peer, amqp=trusting)
    await place(sender, 1)
    await until(lambda: published(sender))
    await peer.send(event(1))
    await until(lambda: shipped(receiver, "o1"))
    data = str(tmp_path / "other")
    wary = await run(
        orders(AmqpPublisher(peer.exchange)), peer, amqp=own_rabbitmq.amqps_url, data=data
    )
    [bridge] = wary.processors._bridges
    await place(wary, 1)
    await until(lambda: "CERTIFICATE_VERIFY_FAILED" in bridge.failure)
