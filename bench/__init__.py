"""Side-by-side benchmarks: `python -m bench all --peer postfix-dovecot`, or one of its parts.

Both servers run on this machine, on high loopback ports, driven in the same run by the same load; the load's own CPU
is told, and a row in which it takes over half of the CPU says so.
"""
