"""Virtual hosts, users, rights and policies: from the metadata into a broker, and back as a whole.

They change seldom and are few, so what a broker started with is simply written again.
"""

from router.broker import Broker
from router.rows import PermissionRow, PolicyRow, TopicPermissionRow, UserRow
from router.store import statements as meta
from router.store.metadata import Metadata
from router.store.statements import Statement


def restore_access(broker: Broker, metadata: Metadata) -> None:
    """Make the virtual hosts, the users with their rights, and the policies again."""
    for name in metadata.vhosts():
        broker.add_vhost(name)
    for user in metadata.users():
        broker.users.add(user.name, user.password_hash, user.tags, user.algorithm)
    for right in metadata.permissions():
        broker.users[right.user].permit(
            right.vhost, configure=right.configure, write=right.write, read=right.read
        )
    for topic in metadata.topic_permissions():
        broker.users[topic.user].permit_topic(topic.vhost, topic.exchange, write=topic.write, read=topic.read)
    for policy in metadata.policies():
        policies = broker.add_vhost(policy.vhost).policies
        put = policies.set_operator if policy.operator else policies.set
        put(
            policy.name,
            policy.pattern,
            policy.definition,
            priority=policy.priority,
            apply_to=policy.apply_to,
        )


def keep_access(broker: Broker) -> list[Statement]:
    """Statements that keep all of it."""
    statements = [meta.add_vhost(name) for name in broker.vhosts]
    for user in broker.users.values():
        statements.append(
            meta.add_user(
                UserRow(user.name, user.password_hash, user.hashing_algorithm, frozenset(user.tags))
            )
        )
        statements += [
            meta.add_permission(PermissionRow(user.name, vhost, *permission))
            for vhost, permission in user.permissions.items()
        ]
        statements += [
            meta.add_topic_permission(TopicPermissionRow(user.name, vhost, exchange, *permission))
            for (vhost, exchange), permission in user.topic_permissions.items()
        ]
    for vhost in broker.vhosts.values():
        for operator, policies in (
            (False, vhost.policies.policies),
            (True, vhost.policies.operator_policies),
        ):
            statements += [
                meta.add_policy(
                    PolicyRow(
                        vhost.name,
                        operator,
                        each.name,
                        each.pattern,
                        each.apply_to,
                        each.priority,
                        each.definition,
                    )
                )
                for each in policies.values()
            ]
    return statements
