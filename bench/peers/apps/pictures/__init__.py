"""Images in Wagtail, as an application of its own: run by gunicorn, in an environment of its own."""
