"""Load for any AMQP 0-9-1 broker, and how well it was borne: what ``leveret bench`` and the comparison run.

Owns the load generator: publishes encoded beforehand, deliveries counted by the read, in processes of their
own. It is built on ``protocol`` and knows nothing of the rest of the broker, which may be anyone's.
"""
