"""`learnae snapshots`, `pin`, `unpin`, `export` and `import`: the swarm's model, as cuts that are kept and as files."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from learnae.cli import completing
from learnae.cli.common import UsageError, as_lines, example, found, one, where
from learnae.errors import StoreError
from learnae.home import default_home


@click.command(short_help="The cuts that are kept here.")
@where
@as_lines
def snapshots(home: Path | None, profile: str | None, as_json: bool) -> None:
    """The cuts of the swarm that are kept here: what they hold, and who attests them."""
    from learnae.cli import tables

    for daemon in found(home, profile):
        answer = daemon.get("/api/snapshots")
        if as_json:
            click.echo(json.dumps({"profile": daemon.profile, "snapshots": answer}))
        else:
            tables.show_snapshots(daemon, answer)


@click.command(short_help="Keep a cut, fetching it if need be.")
@click.argument("cid", shell_complete=completing.cids)
@where
@as_lines
def pin(cid: str, home: Path | None, profile: str | None, as_json: bool) -> None:
    """Keep the cut CID until it is unpinned; fetch it from peers or from IPFS if it is not here."""
    from learnae.cli import progress

    row = progress.post(one(home, profile), f"/api/snapshots/{quote(cid, safe='')}/pin", "fetching")
    if as_json:
        click.echo(json.dumps(row))
        return
    click.echo(f"pinned: cut {row['index']}, {row['updates']} updates, {row['size']} bytes")


@click.command(short_help="Take a pin back.")
@click.argument("cid", shell_complete=completing.cids)
@where
@as_lines
def unpin(cid: str, home: Path | None, profile: str | None, as_json: bool) -> None:
    """Take a pin back; the cut goes when the swarm needs it no more."""
    answer = one(home, profile).post(f"/api/snapshots/{quote(cid, safe='')}/unpin")
    click.echo(json.dumps(answer) if as_json else "unpinned")


@click.command(short_help="Write the model to a file.")
@click.argument("names", nargs=-1, required=True, metavar="[CID] FILE", shell_complete=completing.cids_and_files)
@where
@click.option("--task", metavar="SPEC", help="Task whose model this is.  [default: the daemon's]")
@click.option("--data", type=click.Path(path_type=Path), help="Directory with the task's data files.")
@click.option("--car", is_flag=True, help="Write the cut itself as a CAR file, for `learnae import` and for IPFS.")
@as_lines
def export(
    names: tuple[str, ...],
    home: Path | None,
    profile: str | None,
    task: str | None,
    data: Path | None,
    car: bool,
    as_json: bool,
) -> None:
    """Write the model of the cut CID, or of the newest one, to FILE: float32 tensors, as safetensors.

    With a model that has BatchNorm layers their statistics are estimated anew on the task's local data: they are no
    part of what the swarm shares.
    """
    from learnae.cli import exporting

    if len(names) > 2:
        raise UsageError("give the CID of a cut, or none, and one FILE.", code="bad-arguments")
    cid, file = names[0] if len(names) == 2 else None, Path(names[-1])
    if car and (task or data):
        raise UsageError("--task and --data are for models: a CAR file has what is on the disk.", code="options-clash")

    def export() -> tuple[exporting.Found, int]:
        place = exporting.locate(home or default_home(), profile, cid)
        if car:
            return place, exporting.write_car(place, file)
        return place, exporting.write(place, file, task or place.task, data or place.data)

    unit = "bytes" if car else "weights"
    try:
        place, size = export()
    except StoreError:
        if cid is not None:
            raise
        # The newest cut may have given way to the next one while torch was loading.
        place, size = export()
    if as_json:
        click.echo(json.dumps({"file": str(file), "cid": str(place.cid), unit: size}))
    else:
        click.echo(f"wrote {file}: {size} {unit} of {place.cid}")


@click.command("import", short_help="Take in a cut or a snapshot from a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path))
@where
@as_lines
def import_(file: Path, home: Path | None, profile: str | None, as_json: bool) -> None:
    """Take the cut or the snapshot in FILE in and pin it: a CAR file, or a snapshot as safetensors."""
    from learnae.cli import progress

    taken = progress.post(one(home, profile), f"/api/import?path={quote(str(file), safe='')}", "importing")
    if as_json:
        click.echo(json.dumps(taken))
        return
    what = "a snapshot" if taken["index"] is None else f"cut {taken['index']}"
    click.echo(f"pinned: {what}, {taken['size']} bytes, {taken['cid']}")


example(snapshots, "learnae snapshots", "learnae snapshots --json | jq -r '.snapshots[-1].cid'")
example(export, "learnae export model.safetensors", "learnae export --car bafyrei... cut.car")
example(import_, "learnae import cut.car")
