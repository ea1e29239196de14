"""The routes: each turns a request into one message, and its result into one reply."""
