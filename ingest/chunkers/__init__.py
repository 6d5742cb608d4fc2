"""Chunkers: a parsed document in, spans out. One file per strategy."""
