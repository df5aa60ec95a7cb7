"""python -m examples.mosi_sentiment: sentiment from text, audio and vision, with audio missing."""

import sys

INTERRUPTED = 130  # what shells report for Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    try:
        # Imported here, so that Ctrl-C is answered cleanly while PyTorch loads, too.
        from examples.mosi_sentiment.commands import app

        app(arguments, prog_name="python -m examples.mosi_sentiment")
    except (KeyboardInterrupt, SystemExit) as stop:
        code = INTERRUPTED if isinstance(stop, KeyboardInterrupt) else stop.code
        if code == INTERRUPTED:
            print("Interrupted. The same command goes on from where it was last saved.")
        return int(code or 0)
    except (ValueError, OSError) as error:  # what was wrong with the arguments or the data
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
