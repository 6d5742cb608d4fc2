"""The ground every other package stands on: domain types, errors, settings, text and the database."""
