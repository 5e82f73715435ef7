"""Copies of a datastore's generation, elsewhere: made and taken back."""
