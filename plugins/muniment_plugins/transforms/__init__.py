"""First-party transforms."""
