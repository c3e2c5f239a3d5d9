"""The same script to RabbitMQ and to leveret: what each answers is written down and compared."""
