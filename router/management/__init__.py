"""RabbitMQ's management API over a broker, as plain functions from a call to a response."""
