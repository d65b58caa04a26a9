"""Registered databases."""
