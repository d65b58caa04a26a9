"""The local stack: PostgreSQL, Redis and Carillon's own processes, for `make run`, the tests and the bench.

The product (`service`, `tasks`) never imports this package.
"""
