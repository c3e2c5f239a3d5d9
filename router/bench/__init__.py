"""Load generator and measurements for any AMQP 0-9-1 broker, for ``leveret bench`` and the comparison.

Responsible for publishes that are encoded beforehand, and deliveries that are counted by the read, in
processes of their own. It uses ``protocol`` only, and no other part of the broker.
"""
