"""Logs and metrics, as middleware around the bus and the HTTP application."""
