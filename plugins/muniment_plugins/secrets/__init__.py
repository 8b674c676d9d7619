"""First-party schemes of secrets."""
