"""Schedules: jobs that are submitted again and again, by the clock."""
