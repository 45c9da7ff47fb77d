"""A stress program: many callers of all kinds on one engine, and books that must balance."""
