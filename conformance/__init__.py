"""Comparison of leveret with the real thing: real clients, and a private RabbitMQ as the referee."""
