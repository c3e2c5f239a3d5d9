"""RabbitMQ's management API, as plain functions from a request to a response."""
