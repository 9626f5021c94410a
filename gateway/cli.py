"""The `panward` command.

Exit codes: 0 done, 1 refused or failed, 2 usage, 78 configuration (sysexits' EX_CONFIG).
Commands that need a deployment take `--config F` or `--embedded DIR`.
"""

import typer

from gateway.commands.auditors import auditors
from gateway.commands.authorizations import authorizations
from gateway.commands.ca import ca
from gateway.commands.callbacks import callbacks
from gateway.commands.card_files import import_, redact
from gateway.commands.checkout_snippet import snippet
from gateway.commands.credentials import credentials
from gateway.commands.demo import demo
from gateway.commands.edge_keys import edge_keys
from gateway.commands.explain import explain_command
from gateway.commands.ledger import ledger
from gateway.commands.ledger_files import export, proof
from gateway.commands.ledger_follow import follow
from gateway.commands.ledger_rebuild import rebuild
from gateway.commands.ledger_state import rotate_key, status, unseal
from gateway.commands.options import EX_CONFIG, EX_FAILED, fail
from gateway.commands.page_check import page_check
from gateway.commands.serving import check_config, up
from gateway.commands.tenants import tenants
from gateway.commands.webhooks import webhooks
from gateway.commands.witness import witness
from gateway.custody import VERSION
from vault.errors import CustodyError, StartRefused

app = typer.Typer(
    name="panward",
    help="Card numbers in, tokens out, and a ledger of every authorization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables
)
app.command()(up)
app.command()(demo)
app.command("check-config")(check_config)
app.command("explain")(explain_command)
app.command("witness")(witness)
app.command("page-check")(page_check)
app.command("snippet")(snippet)
app.command("import")(import_)
app.command("redact")(redact)
app.add_typer(tenants, name="tenants")
app.add_typer(credentials, name="credentials")
app.add_typer(callbacks, name="callbacks")
app.add_typer(webhooks, name="webhooks")
app.add_typer(edge_keys, name="edge-keys")
ledger.command("status")(status)
ledger.command("proof")(proof)
ledger.command("export")(export)
ledger.command("follow")(follow)
ledger.command("rebuild")(rebuild)
ledger.command("unseal")(unseal)
ledger.command("rotate-key")(rotate_key)
app.add_typer(ledger, name="ledger")
app.add_typer(ca, name="ca")
app.add_typer(auditors, name="auditors")
app.add_typer(authorizations, name="authorizations")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(VERSION)


def main() -> None:
    """Run the command, and turn what it refuses into a sentence and an exit code."""
    try:
        app()
    except StartRefused as refusal:
        reason, code = str(refusal), EX_CONFIG
    except CustodyError as error:
        reason, code = str(error), EX_FAILED
    else:
        return
    fail(reason, code)
