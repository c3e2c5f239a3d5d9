"""leveret: ``leveret.router`` is the broker, and ``leveret.protocol`` has the wire protocols.

In the repository, both are links to the directories at its top.
"""

__version__ = "0.1.0"
