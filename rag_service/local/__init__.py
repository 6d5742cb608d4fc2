"""The service on one machine: its own PostgreSQL, and one command that runs and watches every process."""
