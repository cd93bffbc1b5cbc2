"""The command line: ``headwater up | run | services | events | state | processors | new | …``."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from headwater.cli.app import run_command_line

    run_command_line()


__all__ = ["main"]
