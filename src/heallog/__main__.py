"""`heallog` and `python -m heallog`."""

import gc


def main() -> None:
    # What is imported stays: looking through it again and again while it grows takes a fifth of the start.
    gc.disable()
    from heallog.command_line import run

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
