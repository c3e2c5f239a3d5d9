"""The test suites that client libraries carry, run against RabbitMQ and against leveret.

Their source distributions are downloaded when the command runs; nothing of them is kept in this repository.
"""
