"""What a node's network dropped before it reached the ledger: each reason in a sentence; used by `tables`."""

from __future__ import annotations

from typing import Final

MEANINGS: Final = {
    "bitswap-refused": "a peer does not take Bitswap messages, or too slowly; it is asked for no blocks",
    "buffer-overrun": "a peer sent far more than was read; its connection was closed",
    "busy": "a peer asked for too much at once, or too many did; it asks again",
    "connection-error": "a connection broke in a way that only a faulty peer or network causes",
    "control-flood": "a pubsub message named too many other messages; that part of it was ignored",
    "denied": "a peer that `--deny` names, or that `--allow` does not, was connected; it was disconnected",
    "handler-error": "learnae itself failed on what came in: the log says how, please report it",
    "handshake": "an incoming connection did not become an encrypted one: a port scan, or no learnae",
    "malformed-bitswap": "a peer sent what is not Bitswap; its connection was closed",
    "malformed-handshake": "a peer broke the handshake of private swarms; it gets nothing",
    "malformed-request": "a request broke off, came too slowly, was too large or broke the wire format",
    "malformed-rpc": "a peer sent what is not pubsub; its connection was closed",
    "oversized": "a pubsub message was larger than any of learnae's",
    "rate-limited": "a peer sent more messages on one topic than an honest one does",
    "send-queue-full": "a peer reads too slowly; what it misses it asks for later",
    "silent-connection": "a peer gave no sign of life any more; the connection was closed",
    "stream-error": "a single exchange with a peer failed; the connection goes on",
    "stranger": "a peer that is no member of this private swarm wanted something; it got nothing",
    "subscription-flood": "a peer subscribed to too many topics at once; that was ignored",
    "too-many-handshakes": "too many connections came in at one moment; the last ones were closed",
    "too-many-streams": "a peer opened too many streams at once; the last ones were closed",
    "unknown-topic": "a message was for a topic on which this node is not; harmless",
    "unopened": "a message on a private swarm's topic that none of the secrets opens; it is not passed on",
    "unwanted-blocks": "a peer sent many blocks that nobody had asked for; its connection was closed",
    "want-flood": "a peer asked for blocks faster than they are given; it was made to wait",
}
"""Reason, as in `network.dropped` of the status and in `learnae_dropped_total`, -> what happened."""
