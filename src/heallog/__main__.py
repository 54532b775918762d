"""`heallog` and `python -m heallog`."""

from heallog.bootstrap import command_line


def main() -> None:
    command_line()


if __name__ == "__main__":
    main()
