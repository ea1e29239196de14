"""What is true of images whatever stores them: entity, values, events and errors. No I/O lives here."""
