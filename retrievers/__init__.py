"""From a question to candidate passages: rewriting, two-stage search, fusion."""
