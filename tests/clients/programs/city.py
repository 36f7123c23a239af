"""The form of a structured answer."""

from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    city: str
