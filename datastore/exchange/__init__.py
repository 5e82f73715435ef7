"""Passages and vectors out of a datastore, and in from others' files."""
