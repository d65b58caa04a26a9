"""Accounts: organizations, users, tokens."""
