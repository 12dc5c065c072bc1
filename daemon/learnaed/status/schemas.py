"""JSON Schemas of what the API answers, every field with its meaning; used by `openapi`.

They are strict: a field that is not described here is an error, which the tests find.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from learnaed.feed import Kind

Schema: TypeAlias = dict[str, Any]


def record(text: str, /, *, optional: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object with these fields and no others."""
    required = [name for name in fields if name not in optional]
    about = {"type": "object", "description": text, "properties": fields, "required": required}
    return {**about, "additionalProperties": False}


def rows(text: str, item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "description": text, "items": item}


def table(text: str, value: Schema) -> Schema:
    """An object with names that are not known beforehand."""
    return {"type": "object", "description": text, "additionalProperties": value}


def string(text: str, *choices: str) -> Schema:
    """A text, or one of these."""
    return {"type": "string", "description": text} | ({"enum": list(choices)} if choices else {})


def whole(text: str, least: int | None = 0) -> Schema:
    """An integer."""
    return {"type": "integer", "description": text} | ({} if least is None else {"minimum": least})


def number(text: str, least: float | None = 0.0, most: float | None = None) -> Schema:
    """A number; times are in seconds, sizes in bytes."""
    bounds = {"minimum": least} if least is not None else {}
    return {"type": "number", "description": text} | bounds | ({"maximum": most} if most is not None else {})


def part(text: str) -> Schema:
    """A number from 0 to 1."""
    return number(text, 0.0, 1.0)


def flag(text: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": text}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return schema | {"type": [schema["type"], "null"]} | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def named(name: str) -> Schema:
    """A schema of the list below."""
    return {"$ref": f"#/components/schemas/{name}"}


STATES: Final = ("starting", "joining", "training", "alone", "paused", "finishing", "settling", "leaving", "stopping")

CUT_ID = record(
    "A cut of the swarm's history.",
    index=whole("Number of the interval that the cut ends with.", None),
    cid=string("CID of its manifest."),
)

TRAINER = record(
    "The process that trains.",
    state=string("Of the process, not of the training.", "starting", "running", "restarting", "stopped"),
    pid=nullable(whole("Process id.")),
    restarts=whole("How often it was restarted."),
    last_error=nullable(string("Why, the last time.")),
    queued=whole("Messages that wait for it."),
    rounds=whole("Own rounds that were published."),
    steps=whole("Own training steps, from the first start of the profile on."),
    samples=whole("Own training samples, likewise."),
    loss=nullable(number("Mean training loss of the last round, on own data.", None)),
    accuracy=nullable(number("Of the weights, on held-out data.", None)),
    accuracy_averaged=nullable(number("Of their running average.", None)),
    metrics=table("All that the task's `evaluate` gave.", nullable(number("A figure.", None))),
    digest=nullable(
        string(
            "SHA-256 of the weights (the replica). Nodes with equal updates have equal digests. Computed now and then, "
            "so nodes that train may show different moments."
        )
    ),
    steps_per_second=number("Over the last ten seconds or so."),
    samples_per_second=number("Over the last ten seconds or so."),
    training_seconds=number("What a recent round spent in local steps."),
    exchange_seconds=number("What it spent in all the rest."),
    slots_per_round=whole("Slots that a round spans: more than one where the exchange would take too much of it."),
)

LEDGER = record(
    "The updates held here.",
    updates=whole("How many, the pruned ones included."),
    authors=whole("By how many nodes."),
    samples=whole("Training samples behind them, of all nodes."),
    vector_digest=nullable(
        string("Digest of *which updates* are held. It is not that of the weights, which is `trainer.digest`.")
    ),
    missing=whole("Announced updates whose payload is still being fetched. What was never heard of is not counted."),
    syncing=whole("Exchanges with peers that are repairing a difference now."),
    clipped=whole("Updates above the floor that count by a part only: too large, or claiming too much of the work."),
    floor=nullable(whole("Interval up to which the log is pruned: a manifest stands for those updates.")),
    vector=table("Of each author's updates", whole("the number of the last one that is known here.")),
)

CUTS = record(
    "The agreement on what has been done.",
    settled=nullable(CUT_ID | {"description": "The newest cut that more than half of the nodes attest."}),
    newest=nullable(CUT_ID | {"description": "The newest cut that this node has taken."}),
    votes=whole("How many nodes attest that one,"),
    electorate=whole("of how many."),
    unsettled=whole("Cuts taken here that wait for their majority."),
    disputed=whole("Intervals of which nodes attest different cuts. A few are normal, more and more are not."),
    adopting=nullable(string("Why this node is about to go over to the weights of others.")),
    adopted=whole("How often it has done so."),
)

FETCHING = record(
    "The snapshot that is being fetched.",
    cid=string("Its CID."),
    done=whole("Bytes that are here."),
    size=whole("Bytes in all; 0 while that is unknown."),
    holders=whole("Peers that were asked for it."),
    speed=number("Bytes per second."),
    seconds_left=nullable(number("Until it is here, at this speed.")),
)

IMPORTING = record(
    "The file that is being taken in.",
    file=string("Its name."),
    done=whole("Bytes of it that were read and checked."),
    size=whole("Bytes in all."),
)

SNAPSHOTS = record(
    "The snapshots on the disk.",
    held=whole("How many."),
    bytes=whole("Size of all their blocks."),
    cap=whole("The most that it may be."),
    collected=whole("Blocks that were deleted since the start, because nobody needs them."),
    damaged=whole("Blocks that the disk had damaged, and that were dropped."),
    lost=whole("Damaged blocks that are needed, and still to be fetched again."),
    mended=whole("Those that were fetched again since the start."),
    importing=nullable(IMPORTING),
    fetching=nullable(FETCHING),
)

IPFS = record(
    "The IPFS node that holds snapshots too; null with `--ipfs off`.",
    state=string("See docs/ipfs.md.", "absent", "connecting", "importing", "ok", "failing"),
    why=nullable(string("Why it is failing.")),
    address=nullable(string("Where its RPC API is.")),
    node=nullable(string("Who it says that it is: its peer id.")),
    agent=nullable(string("And its program.")),
    last_success=nullable(number("When it last did what it was asked, in seconds since 1970.")),
    pins=whole("Pins of this node there."),
    queue=whole("What is still to be pinned or unpinned."),
    imports=whole("Cuts sent."),
    bytes_sent=whole("Bytes sent."),
    failures=whole("Times that it was away, refused or answered nonsense."),
)

BITSWAP = record(
    "Blocks exchanged with peers.",
    blocks_sent=whole("Blocks given."),
    bytes_sent=whole("Their size."),
    blocks_received=whole("Blocks that were asked for and came."),
    bytes_received=whole("Their size."),
    duplicates=whole("Those that came a second time, from another peer."),
    unwanted=whole("Blocks that nobody here had asked for; they were not kept."),
    unwanted_bytes=whole("Their size."),
    malformed=whole("Messages that could not be read; the connection was closed."),
    wants=whole("Wishes of peers that were taken in."),
    refused_wants=whole("Wishes beyond a peer's limit."),
    links=whole("Peers that Bitswap is spoken with now."),
    sessions=whole("Downloads under way."),
)

NETWORK = record(
    "Traffic since the start.",
    peers=whole("Connected peers, of other topics too."),
    connections=whole("Connections with them."),
    known_peers=whole("Peers with an address to dial."),
    bytes_sent=whole("Of the TCP connections, encryption included, IP headers not."),
    bytes_received=whole("Likewise."),
    messages_published=whole("By gossip."),
    messages_received=whole("By gossip."),
    requests_sent=whole("On streams."),
    requests_failed=whole("On streams."),
    requests_served=whole("On streams."),
    dials=whole("Attempts to connect."),
    dial_failures=whole("Those that failed."),
    incoming=whole("Connections that came in from other machines."),
    discovered=whole("Addresses heard of by mDNS."),
    host_restarts=whole("Times that the network stack failed and was started anew."),
    dropped=table("What the network dropped, by reason: see the user guide.", whole("How often.")),
)

MESSAGE = record(
    "Something that the user was told.",
    time=string("When, as ISO 8601 in UTC."),
    level=string("How grave it is.", "info", "warning", "error"),
    text=string("What."),
)

REASON = record(
    "Why the node does not train.",
    reason=string("A name for it: `user`, `hours`, `busy`, `battery`, `memory`, `disk` and so on."),
    text=string("The same for people."),
    until=nullable(number("When it ends, in seconds since 1970, if that is known.")),
)

STATUS = record(
    "A node's state. A field that is not known yet is null, or 0 where it is a count.",
    optional=("paused", "limits", "warden", "private", "api"),
    version=string("learnae's."),
    peer=string("This node's peer id."),
    topic=string("As the node was started."),
    task=string("As the node was started."),
    data=nullable(string("Directory with the task's data.")),
    shard=string("K/N: the part of the data that is trained on."),
    profile=string("Name of the state directory."),
    state=string("What the node does: see the user guide.", *STATES),
    swarm=nullable(string("The swarm's id: equal on all nodes that add each other's updates.")),
    layout=nullable(string("Fingerprint of the model's layout: equal for equal tensors.")),
    parameters=nullable(whole("Weights that are shared.")),
    slot=nullable(whole("Number of the wall-clock slot.")),
    slot_seconds=nullable(number("Its length.")),
    share=number("This node's part of the swarm's work, by which its updates are scaled."),
    members=whole("Other live nodes of the swarm."),
    uptime=number("Seconds since the daemon started.", None),
    pid=whole("The daemon's process id."),
    listen=rows("Full addresses, to be copied after `--peer`.", string("A multiaddr.")),
    trainer=TRAINER,
    ledger=LEDGER,
    cuts=CUTS,
    snapshots=SNAPSHOTS,
    ipfs=nullable(IPFS),
    bitswap=BITSWAP,
    clock_offset=number("Seconds by which the swarm's clock is ahead of this PC's; 0 if by less than one.", None),
    refused=table("Updates and messages refused, by reason: see the user guide.", whole("How often.")),
    network=NETWORK,
    store=record(
        "The database.",
        path=string("Where it is."),
        bytes=whole("Its size."),
        writes=whole("Transactions since the start."),
    ),
    driver=record(
        "The events between network, store and trainer.",
        queued=whole("Those that wait."),
        events=whole("All so far."),
        store_failures=whole("Times that the disk refused."),
        store_waiting=whole("What waits for it now."),
    ),
    feed=record(
        "The events for those who watch.",
        events=whole("All so far."),
        readers=whole("Who reads them now."),
        gaps=whole("Events that readers missed because they were too slow."),
    ),
    api=record(
        "This endpoint.",
        connections=whole("Open now."),
        turned_away=whole("Connections that came when there were too many."),
        requests=whole("All so far."),
        refused=whole("Those refused before they were looked at: foreign hosts and pages, no token, too many at once."),
        streams=whole("Open event streams."),
    ),
    messages=rows("The last fifty things that the user was told, oldest first.", MESSAGE),
    paused=record("Why the node does not train.", reasons=rows("All that hold it back; none: it trains.", REASON)),
    limits=table("The limits in force: see `/api/limits`.", {"description": "A limit."}),
    warden=record(
        "What keeps the node to its limits.",
        daemon_memory=whole("Bytes of memory that the daemon used at the last look, which comes every five seconds."),
        trainer_memory=whole("The same of the trainer."),
        pauses=whole("Times that something began to keep the node from training."),
    ),
    private=flag("The swarm is closed to those without its secret."),
    secret_file=nullable(string("The file that its secret is in.")),
)

PEER = record(
    "Another node on the topic.",
    peer=string("Its peer id."),
    addresses=rows("Where it can be dialled.", string("A multiaddr.")),
    connected=flag("It is connected now."),
    swarm_match=flag("It is a live member of this node's swarm."),
    problem=nullable(string("What keeps it from merging with this node: the tensors that differ.")),
    state=string("What its last heartbeat said; `unknown` before the first."),
    role=string("What it does for the swarm.", "trains", "paused", "serves", "unknown"),
    agent=nullable(string("Its program and version.")),
    updates=nullable(whole("Updates that it holds.")),
    samples_per_second=nullable(number("How fast it says that it trains.")),
    vector_digest=nullable(
        string("Digest of the updates that it holds; equal to that in `ledger` if they are the same.")
    ),
    settled=nullable(CUT_ID | {"description": "Its newest settled cut."}),
    newest=nullable(CUT_ID | {"description": "Its newest other cut."}),
    floor=nullable(whole("Interval up to which its log is pruned.")),
    clock_ahead=nullable(number("Seconds by which its clock seemed to be ahead of this PC's.", None)),
    forked=flag("It has signed two updates for one slot, of which one counts."),
    layout=nullable(string("Fingerprint of its model's layout.")),
    last_seen=nullable(number("Seconds since its last heartbeat.", None)),
    bytes_sent=whole("Sent to it over the connections that are open now."),
    bytes_received=whole("Received over them."),
    direction=nullable(string("Who dialled.", "inbound", "outbound")),
    staleness=nullable(whole("Slots since its newest update; null if that is pruned, or there is none.")),
)

UPDATE = record(
    "One update: what a node learnt in a round.",
    author=string("Peer id of who made it."),
    seq=whole("Its number among the author's."),
    slot=whole("The slot that it was made in."),
    interval=whole("The interval, ended by a cut, that the slot is part of."),
    samples=whole("Training samples that it claims."),
    norm=nullable(number("How far it moves the weights.")),
    loss=nullable(number("Mean training loss that it claims.", None)),
    bytes=nullable(whole("Envelope and payload; null if it was pruned this moment.")),
    counts=part("By which part of itself it counts: less than 1 if it is too large or claims too much of the work."),
    void=flag("Its payload cannot be decoded, so it counts as zeros; known for those of this run."),
)

ROW = record(
    "The node at one moment.",
    time=number("When, in seconds since 1970."),
    slot=nullable(whole("Number of the wall-clock slot.")),
    loss=nullable(number("Mean training loss of the last round.", None)),
    accuracy=nullable(number("On held-out data.", None)),
    accuracy_averaged=nullable(number("Of the running average of the weights.", None)),
    updates=whole("Updates in the ledger."),
    members=whole("Other live nodes of the swarm."),
    bytes_sent=whole("To peers, since the daemon's start."),
    bytes_received=whole("From peers, since the daemon's start."),
    steps_per_second=number("Local steps."),
    share=number("This node's part of the swarm's work."),
    state=string("What the node did."),
)

HISTORY = record(
    "How training went.",
    every=number("Seconds between the most recent rows; those of more than half an hour ago are further apart."),
    rows=rows("Oldest first.", ROW),
)

CUT = record(
    "A cut that is kept here.",
    index=whole("Interval that the cut ends with."),
    cid=string("CID of the cut."),
    weights=string("CID of its snapshot."),
    size=whole("Bytes of the snapshot."),
    updates=whole("All up to there, since the swarm began."),
    samples=whole("Training samples behind them."),
    loss=nullable(number("Mean training loss of the last interval.", None)),
    authors=whole("Nodes that contributed to it."),
    since=number("When it was settled or fetched here, in seconds since 1970."),
    milestone=flag("It is one of those that are kept for good."),
    pinned=flag("The user wants it kept."),
    attested_by=whole("Other nodes that attest it now; nodes forget old cuts."),
)

EVENT = record(
    "Something that happened.",
    id=whole("Its number: one more than that of the event before, larger after a restart."),
    time=number("When, in seconds since 1970."),
    kind=string("What it tells of.", *(kind.value for kind in Kind)),
    data=table("What there is to say, by the kind of the event: see below.", {"description": "A value."}),
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Status": STATUS,
    "Peer": PEER,
    "Update": UPDATE,
    "History": HISTORY,
    "Cut": CUT,
    "Event": EVENT,
    "Imported": record(
        "What a file held.",
        cid=nullable(string("CID of the cut; null for a snapshot alone.")),
        weights=string("CID of the snapshot."),
        size=whole("Its bytes."),
        index=nullable(whole("Interval of the cut; null for a snapshot alone.", None)),
    ),
    "Limits": table("The limits in force, by name.", {"description": "A limit."}),
    "Accepted": record("The daemon does it.", accepted=string("What.")),
    "Ticket": record(
        "A way in for a browser.",
        ticket=string("Open `/?ticket=TICKET` with it, once."),
        seconds=number("How long it is good."),
    ),
    "Session": record("What this request may do.", steer=flag("It may change things, too.")),
    "Health": record(
        "Whether the node does its work.", healthy=flag("It does."), detail=string("What it does, or why not.")
    ),
    "Error": record(
        "Why a request was refused.",
        error=string("What happened, why, and what to do."),
        code=string("A short name for it: see docs/errors.md."),
    ),
}
"""By the names that they have in the OpenAPI document."""

EVENT_DATA: Final[dict[Kind, str]] = {
    Kind.STATE: "`state` and `before`: the node's state, and that before.",
    Kind.MESSAGE: "`level` and `text`: a line for the user, as in `messages` of the status.",
    Kind.PEER: "`peer` and `connected`: the first connection to a peer is up, or the last one is gone.",
    Kind.ROUND: "`seq`, `slot`, `samples`, `norm`, `loss`, `counts`: an own round was published, as in `/api/updates`.",
    Kind.REPORT: "`rounds`, `steps`, `samples`, `loss`, `accuracy`, `accuracy_averaged`, `steps_per_second`: how "
    "training goes, as in `trainer` of the status.",
    Kind.CUT: "`index` and `cid`: this node has taken a cut.",
    Kind.SETTLED: "`index` and `cid`: more than half of the nodes attest this cut.",
    Kind.DOWNLOAD: "`cid`, `done`, `size`, `holders`, `speed`, `seconds_left`, `ended`: a snapshot is being fetched, "
    "once a second, and once more when that has ended.",
    Kind.PAUSED: "`reasons`: why the node does not train; none if it may.",
    Kind.LIMITS: "`limits`: those in force now.",
}
