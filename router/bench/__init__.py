"""Load generator and measurements for any AMQP 0-9-1 broker, for ``leveret bench`` and the comparison.

Publishes are encoded beforehand. Deliveries are counted once a read. Publishers and consumers run in
processes of their own. The package uses ``protocol`` only, and no other part of the broker.
"""
