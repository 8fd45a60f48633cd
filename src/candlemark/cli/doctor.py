"""`candlemark doctor`: is this machine ready, and if not, which command mends it."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check Python, packages, devices, cache, disk and the reach of Hub and Binance.

    Exit status 1 if something keeps the main job from running.

    - `candlemark doctor --json`
    """
    from candlemark.doctor import diagnose

    checks = list(diagnose())
    ok = all(check.state != "problem" for check in checks)
    if json:
        from candlemark.cli.output import print_json

        print_json({"ok": ok, "checks": [check.to_dict() for check in checks]})
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        colours = {"ok": "green", "note": "yellow", "problem": "red"}
        for check in checks:
            fix = f"\n  [bold]{check.fix}[/]" if check.fix else ""
            colour = colours[check.state]
            table.add_row(f"[{colour}]{check.state}[/]", check.name, f"{check.found}{fix}")
        Console().print(table)
    raise typer.Exit(0 if ok else 1)
