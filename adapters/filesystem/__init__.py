"""Objects as files below one data directory: durable, create-only, with signed URLs of its own."""
