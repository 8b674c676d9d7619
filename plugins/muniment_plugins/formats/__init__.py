"""First-party formats."""
