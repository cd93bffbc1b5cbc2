"""``headwater version``."""


def version() -> None:
    """Print the version."""
    from headwater import __version__

    print(__version__)  # noqa: T201  # the command's output
