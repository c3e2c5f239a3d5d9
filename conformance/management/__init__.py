"""leveret's management API beside RabbitMQ's: both are asked the same, and their answers compared."""
