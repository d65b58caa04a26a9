"""Queues: which job is sent to the workers when, and who may hold it back."""
