"""What a script imports from its own folder."""


def sentence(epochs: int, others: list[str]) -> str:
    return f"{epochs} epochs, {' '.join(others)}"
