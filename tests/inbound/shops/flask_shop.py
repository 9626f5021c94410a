"""An old-fashioned shop in Flask: a card form, a table, and a page that shows what is in it.

It knows nothing of a gateway. It wants digits where the card number is, as such shops do, and
writes down whatever it is sent. Started by `flask --app flask_shop run`.
"""

import os
import re
import sqlite3
from pathlib import Path

from flask import Flask, redirect, render_template_string, request
from werkzeug.wrappers import Response

FOLDER = Path(os.environ["SHOP_FOLDER"])
DATABASE = FOLDER / "shop.sqlite3"
CARD_NUMBER = re.compile(r"[0-9]{12,19}")

FORM = """<!doctype html><title>Pay</title>
<form method="post" action="/pay">
  <input name="holder" autocomplete="cc-name">
  <input name="number" autocomplete="cc-number" inputmode="numeric">
  <input name="expiry" autocomplete="cc-exp" placeholder="MM/YY">
  <input name="cvc" autocomplete="cc-csc" size="4">
  <button>Pay</button>
</form>"""
ORDER = """<!doctype html><title>Order {{ id }}</title>
<dl><dt>Holder</dt><dd id="holder">{{ holder }}</dd>
<dt>Card</dt><dd id="number">{{ number }}</dd>
<dt>Expires</dt><dd id="expiry">{{ expiry }}</dd>
<dt>Code</dt><dd id="cvc">{{ cvc }}</dd></dl>"""

app = Flask(__name__)


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(DATABASE)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS orders"
        " (id INTEGER PRIMARY KEY, holder TEXT, number TEXT, expiry TEXT, cvc TEXT)"
    )
    return connection


@app.get("/")
def form() -> str:
    return FORM


@app.post("/pay")
def pay() -> Response | tuple[str, int]:
    app.logger.warning("paid with %s", dict(request.form))
    number = request.form["number"].replace(" ", "")
    if not CARD_NUMBER.fullmatch(number):
        return "Please enter the digits of your card.", 400
    row = (request.form["holder"], number, request.form["expiry"], request.form["cvc"])
    connection = database()
    try:
        with connection:
            made = connection.execute(
                "INSERT INTO orders (holder, number, expiry, cvc) VALUES (?, ?, ?, ?)", row
            )
    finally:
        connection.close()
    return redirect(f"/orders/{made.lastrowid}")


@app.get("/orders/<int:order>")
def show(order: int) -> str | tuple[str, int]:
    connection = database()
    try:
        row = connection.execute(
            "SELECT holder, number, expiry, cvc FROM orders WHERE id = ?", (order,)
        ).fetchone()
    finally:
        connection.close()
    if row is None:
        return "no such order", 404
    holder, number, expiry, cvc = row
    return render_template_string(
        ORDER, id=order, holder=holder, number=number, expiry=expiry, cvc=cvc
    )
