"""`make bench`: what a webhook costs, and how late it comes, beside other ways to do the same.

Contestants run one at a time, in turn (A B A B ...), each in a process of its own, on a fresh copy of its
database in one durable embedded PostgreSQL, against the same receiver. Every round checks that each webhook
arrived exactly once and has exactly one row of success; otherwise the benchmark fails. Ratios within a round
are what counts: the machine's other load moves both contestants.

scenarios.py says who takes part in what; goals.py what is to be reached; docs/performance.md what was.
"""
