// What the names in the daemon's answers mean, in a sentence each; a test compares them with the daemon's own.

/** Why an update was refused, or counts for nothing. */
export const REFUSALS = {
  "malformed": "the bytes break the wire format or one of its bounds",
  "bad-signature": "the message is not signed by the key that it names",
  "wrong-swarm": "the update belongs to another model or another start of it",
  "duplicate": "the update is already in the ledger; harmless, messages may arrive more than once",
  "conflict": "the author signed two updates for one slot or under one number; the one with the smaller digest counts",
  "future-slot": "the update's slot has not begun: the author's clock, or this one, is wrong",
  "late": "the cut that the update would belong to is settled: it came too late",
  "stale": "the author's weights stand on a cut that is too old, or on one that its slot does not follow",
  "other-lineage": "the author's weights stand on another history than the one that was settled here",
  "oversized": "the payload would be larger than the whole model",
  "crowded": "the ledger has no room for another author, or for another gap in an author's numbers",
  "bad-block": "a peer answered with a block that is not the one asked for",
  "void": "the payload cannot be decoded, or exceeds the norm that it claims; it counts as zeros on every node",
  "overload": "too many updates were waiting; it will come again through repair",
};

/** What the node's network dropped before it reached the ledger. */
export const DROPS = {
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
  "stranger": "a peer that is no member of this private swarm wanted something; it got nothing",
  "stream-error": "a single exchange with a peer failed; the connection goes on",
  "subscription-flood": "a peer subscribed to too many topics at once; that was ignored",
  "too-many-handshakes": "too many connections came in at one moment; the last ones were closed",
  "too-many-streams": "a peer opened too many streams at once; the last ones were closed",
  "unknown-topic": "a message was for a topic on which this node is not; harmless",
  "unopened": "a message on a private swarm's topic that none of the secrets opens; it is not passed on",
  "unwanted-blocks": "a peer sent many blocks that nobody had asked for; its connection was closed",
  "want-flood": "a peer asked for blocks faster than they are given; it was made to wait",
};

/** What a node does in each of its states. */
export const STATES = {
  starting: "the trainer loads torch, model and data",
  joining: "it hears who is there and fetches what it misses",
  training: "it trains together with others",
  alone: "it trains by itself, and keeps looking for others",
  paused: "it does not train; it still stores, merges and serves updates",
  finishing: "it completes its last round",
  settling: "its last update is published; it waits until all members hold the same",
  leaving: "it says good-bye",
  stopping: "it ends",
};

/** States after which there is nothing to pause or resume. */
export const ENDING = ["finishing", "settling", "leaving", "stopping"];

/** What a peer does in the swarm. */
export const ROLES = {
  trains: "trains",
  paused: "paused",
  serves: "serves",
  unknown: "unknown",
};
