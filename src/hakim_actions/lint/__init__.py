"""Proves that the files an image, its templates and its docs are made from agree."""
