"""Rebuilding what is damaged in a datastore from what is whole."""
