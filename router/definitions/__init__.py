"""Import and export of RabbitMQ's definitions documents: users, virtual hosts, queues and other objects."""

from leveret.router.definitions.document import (
    Definitions,
    DefinitionsError,
    RefusedEntry,
    hash_passwords,
    parse_definitions,
)
from leveret.router.definitions.exporting import export_definitions, export_in_parts, unportable_users
from leveret.router.definitions.importing import ImportReport, apply_definitions, import_definitions

__all__ = [
    "Definitions",
    "DefinitionsError",
    "ImportReport",
    "RefusedEntry",
    "apply_definitions",
    "export_definitions",
    "export_in_parts",
    "hash_passwords",
    "import_definitions",
    "parse_definitions",
    "unportable_users",
]
