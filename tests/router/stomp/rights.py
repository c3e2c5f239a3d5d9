"""Every frame that asks for permissions: the table, with the permissions in the order they are asked for.

``NEW`` is a queue whose name the broker makes up. ``conformance/scenarios/stomp_permissions.py`` plays the
frames to RabbitMQ. Queue ``q``, and ``x``, a direct exchange, are there already.
"""

NEW = "queue stomp-subscription-..."
DURABLE = {"durable": "true", "auto_delete": "false"}
SUBSCRIBED = [f"configure {NEW}", f"read {NEW}", f"write {NEW}"]
FRAMES = {
    "SEND to /queue": ("SEND", {"destination": "/queue/q"}, ["configure queue q", "write exchange "]),
    "SEND to a new /queue": (
        "SEND",
        {"destination": "/queue/new"},
        ["configure queue new", "write exchange "],
    ),
    "SEND to /amq/queue": ("SEND", {"destination": "/amq/queue/q"}, ["write exchange "]),
    "SEND to /exchange": ("SEND", {"destination": "/exchange/x/k"}, ["write exchange x"]),
    "SEND to a missing /exchange": (
        "SEND",
        {"destination": "/exchange/missing/k"},
        ["write exchange missing"],
    ),
    "SEND to /topic": (
        "SEND",
        {"destination": "/topic/a.b"},
        ["write exchange amq.topic", "write topic amq.topic a.b"],
    ),
    "SEND with dead letters": (
        "SEND",
        {"destination": "/queue/new", "x_dead_letter_exchange": "x"},
        ["configure queue new", "read queue new", "write exchange x", "write exchange "],
    ),
    "SUBSCRIBE to /queue": (
        "SUBSCRIBE",
        {"destination": "/queue/q", "id": "1"},
        ["configure queue q", "read queue q"],
    ),
    "SUBSCRIBE to /amq/queue": ("SUBSCRIBE", {"destination": "/amq/queue/q", "id": "1"}, ["read queue q"]),
    "SUBSCRIBE to a missing /amq/queue": (
        "SUBSCRIBE",
        {"destination": "/amq/queue/missing", "id": "1"},
        ["read queue missing"],
    ),
    "SUBSCRIBE to /exchange": (
        "SUBSCRIBE",
        {"destination": "/exchange/x/k", "id": "1"},
        [*SUBSCRIBED, "read exchange x"],
    ),
    "SUBSCRIBE to a missing /exchange": (
        "SUBSCRIBE",
        {"destination": "/exchange/missing/k", "id": "1"},
        [*SUBSCRIBED, "read exchange missing"],
    ),
    "SUBSCRIBE to /topic": (
        "SUBSCRIBE",
        {"destination": "/topic/a.*", "id": "1"},
        ["read topic amq.topic a.*", *SUBSCRIBED, "read exchange amq.topic", "read topic amq.topic a.*"],
    ),
    "SUBSCRIBE to /topic by name": (
        "SUBSCRIBE",
        {"destination": "/topic/a.*", "id": "1", "x_queue_name": "q", **DURABLE},
        [
            "read topic amq.topic a.*",
            "configure queue q",
            "read queue q",
            "write queue q",
            "read exchange amq.topic",
            "read topic amq.topic a.*",
        ],
    ),
}
