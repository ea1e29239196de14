"""What can be ordered: one file a use case, the message beside its handler."""
