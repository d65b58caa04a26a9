"""Workflows: jobs that depend on one another, submitted and watched as one."""
