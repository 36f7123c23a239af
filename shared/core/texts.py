"""Pieces of the texts that people read."""

from __future__ import annotations

from .models import Event


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def organiser(event: Event) -> str:
    """Whom an attendee may ask."""
    return f"your organiser ({event.organizer})" if event.organizer else "your organiser"
