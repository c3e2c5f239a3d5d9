"""The tx class (AMQP 0-9-1 1.9) and RabbitMQ's confirm class."""

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channel import Channel


def confirm_select(channel: Channel, method: m.ConfirmSelect) -> m.ConfirmSelectOk:
    channel.session.select_confirms()
    return m.ConfirmSelectOk()


def select(channel: Channel, method: m.TxSelect) -> m.TxSelectOk:
    channel.session.select_transactions()
    return m.TxSelectOk()


def commit(channel: Channel, method: m.TxCommit) -> m.TxCommitOk:
    channel.session.commit()
    return m.TxCommitOk()


def rollback(channel: Channel, method: m.TxRollback) -> m.TxRollbackOk:
    channel.session.rollback()
    return m.TxRollbackOk()
