from pydantic import BaseModel

from orchestrator import fan_out, workflow
from workers import agent


class Name(BaseModel):
    text: str


class Greeting(BaseModel):
    text: str


@agent
async def tidy(name: Name) -> Name:
    return Name(text=" ".join(name.text.split()).title())


@agent
async def formal(name: Name) -> Greeting:
    return Greeting(text=f"Good day, {name.text}.")


@agent
async def casual(name: Name) -> Greeting:
    return Greeting(text=f"Hi {name.text.split()[0]}!")


@agent
async def letter(greetings: list[Greeting]) -> Greeting:
    return Greeting(text=" ".join(one.text for one in greetings))


hello = workflow("hello", tidy >> fan_out(formal, casual, join=letter))
