"""Users, rights, limits and definitions, against leveret and RabbitMQ through their management APIs."""
