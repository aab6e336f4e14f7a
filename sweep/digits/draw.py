"""A page to draw a digit on, and to watch what the model makes of it. It is for this machine only.

sweep draw                 with the champion of MNIST's in MLflow's registry, or the best model of MNIST
sweep draw --study NAME    or --experiment NAME, --run ID, --model NAME, as for sweep best
"""

import logging
import os
import socket
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from flask import Flask, abort, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from sweep.arguments import Parser
from sweep.digits import handwriting, predict
from sweep.digits.classifier import Classifier
from sweep.errors import SweepError, exit_with_one_line
from sweep.record.connect import connect
from sweep.results import best

HOST = "127.0.0.1"
PORT = 8128

MOST_BYTES, MOST_PIXELS = 2**20, 2**20
"""Largest drawing; the page sends a few thousand bytes, and 78,400 pixels."""


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep draw`."""
    parser = Parser("draw", __doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page ({PORT}); 0 for any that is free")
    best.add_choice(parser)
    options = parser.parse_args(arguments)
    with exit_with_one_line():
        connect()
        run = predict.choose_run(options)
        classifier = predict.load_reader(run)
        listening = _listen(options.port)
    name, note = predict.describe(run, options.model), predict.doubt(run)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it has a line for each stroke
    with listening:
        server = make_server(
            HOST, listening.getsockname()[1], make_app(classifier, name, note), threaded=True, fd=listening.fileno()
        )
        print(f"reading with {name} ({run.run_id})")
        if note:
            print(f"note: {note}", file=sys.stderr)
        print(f"draw on http://{HOST}:{server.port}    (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def _listen(port: int) -> socket.socket:
    """Return a socket on `port` that only this machine can reach.

    Raises:
        SweepError: The port is taken, or is none.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "there are ports up to 65535"
        raise SweepError(f"--port={port}: cannot be listened on ({reason}); choose another, or 0 for any") from error


def make_app(classifier: Classifier, name: str, note: str = "") -> Flask:
    """Return the web app: a page to draw on, whose drawings `classifier` reads.

    The page shows the model's `name` and the `note`.
    """
    app = Flask("sweep", static_folder=None, template_folder=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    # A page from elsewhere whose own name has been made to lead here is not to be answered (DNS rebinding).
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]

    @app.get("/")
    def page() -> str:
        return render_template("draw.html", model=name, note=note)

    @app.post("/predict")
    def answer() -> dict[str, Any]:
        """Return each digit's probability for a drawing (PNG), and the 28x28 grey levels that the model saw."""
        if request.mimetype != "image/png":
            abort(415, "send a drawing as image/png")
        try:
            image = handwriting.open_image(BytesIO(request.get_data()), "the drawing", MOST_PIXELS)
        except SweepError as error:
            abort(400, str(error))
        try:
            reading = predict.read_digit(classifier, image, "the drawing")
        except SweepError as error:
            abort(422, str(error))
        return {
            "words": predict.reading_in_words(reading),
            "probabilities": reading.probabilities.tolist(),
            "seen": (255 * reading.seen.flatten()).round().int().tolist(),
        }

    @app.errorhandler(HTTPException)
    def refusal(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": error.description}, error.code or 500

    return app
