"""Virtual hosts: topology, policies, dead letters, tracing."""
