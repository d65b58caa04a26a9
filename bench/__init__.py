"""Carillon beside bare Celery, measured in one run: `python -m bench --help`.

It asks the platform what its clients ask, over HTTP, one socket and one webhook endpoint. Those clients are processes
of their own, as cheap as Python allows, so that they take little from the cores that are measured.
"""
