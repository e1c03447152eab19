"""Coder templates: packed, validated, and pushed through Coder's API."""
