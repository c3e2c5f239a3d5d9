"""Virtual hosts, users, rights, policies and parameters: from the metadata into a broker."""

from router.auth import PasswordHash
from router.broker import Broker
from router.limits import USER_LIMITS, VHOST_LIMITS, check_limits
from router.store.metadata import Metadata
from router.vhost_metadata import restored


def restore_access(broker: Broker, metadata: Metadata) -> None:
    """Make them again. Policies hold for what is declared from then on."""
    for vhost in metadata.vhosts():
        broker.add_vhost(vhost.name).metadata = restored(vhost.metadata)
    for row in metadata.users():
        user = broker.users.add(row.name, PasswordHash(row.password_hash, row.algorithm), row.tags)
        user.limits = check_limits(row.limits, USER_LIMITS, "user-limits")
    for right in metadata.permissions():
        broker.users[right.user].permit(
            right.vhost, configure=right.configure, write=right.write, read=right.read
        )
    for topic in metadata.topic_permissions():
        broker.users[topic.user].permit_topic(topic.vhost, topic.exchange, write=topic.write, read=topic.read)
    for policy in metadata.policies():
        broker.add_vhost(policy.vhost).policies.put(
            policy.name,
            policy.pattern,
            policy.definition,
            priority=policy.priority,
            apply_to=policy.apply_to,
            operator=policy.operator,
        )
    for parameter in metadata.parameters():
        if parameter.component == "vhost-limits":
            limits = check_limits(parameter.value, VHOST_LIMITS, "limits")
            broker.add_vhost(parameter.vhost).limits = limits
    for each in metadata.global_parameters():
        broker.global_parameters[each.name] = each.value
