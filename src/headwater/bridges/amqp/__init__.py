"""Exchanges and queues of AMQP 0-9-1, as RabbitMQ has them."""
