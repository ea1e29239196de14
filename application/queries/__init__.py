"""What can be asked: one file a use case, the message beside its handler."""
