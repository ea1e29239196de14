"""Calotype for other Python modules: open a bus, send commands and queries, handle errors. Nothing else lives here."""
