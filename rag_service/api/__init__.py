"""The REST API: one file per noun, `schemas` for the shapes, `errors` for RFC 9457."""
