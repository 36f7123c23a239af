"""The commands of `manage.py`. Not part of the deployed app."""
