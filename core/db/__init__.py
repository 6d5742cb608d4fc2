"""The database: the truth about knowledge bases, documents, jobs, keys and conversations."""
