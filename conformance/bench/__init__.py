"""leveret beside a real RabbitMQ: every workload in turn, A B A B, and what the two did to each other's.

Owns the table of workloads with their goals, the order of measuring, and the page about it. How a broker
is loaded and what of it is counted is ``leveret.router.bench``'s, for either broker alike.
"""
