"""Benchmark of the broker's core without sockets, for ``leveret bench core``.

The bytes of a client go into a real connection of a broker in this process, and the bytes for the client come
out. What is measured is the CPU time of the process between the two, per message: the least of many passes,
which is steady on a busy machine, where rates are not. ``router.bench`` measures brokers over sockets.
"""
