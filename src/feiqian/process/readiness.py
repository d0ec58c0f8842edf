"""How a process says that it serves: lines into the pipe that whoever started it left open for that."""

import os

VARIABLE = "FEIQIAN_READY_FD"
LISTENING, READY = "listening", "ready"


def tell_listening(address: str) -> None:
    """Write `listening ADDRESS`: it answers there whom it waits for, and will be ready when that one has answered."""
    number = os.environ.get(VARIABLE)
    if number is not None:
        os.write(int(number), f"{LISTENING} {address}\n".encode())


def tell_ready(address: str) -> None:
    """Write `ready ADDRESS` to the descriptor that the environment names; without one, do nothing."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return
    with os.fdopen(int(number), "wb") as pipe:
        pipe.write(f"{READY} {address}\n".encode())
