"""What `manage.py` does. Never part of the deployed app."""
