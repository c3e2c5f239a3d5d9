"""The broker as a whole: its virtual hosts, the order of a batch, alarms, administration."""
