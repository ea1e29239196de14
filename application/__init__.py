"""The use cases, the bus that runs them and the ports they need. No framework, SDK, logging or I/O lives here."""
