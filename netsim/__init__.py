"""Networks made on one machine: real namespaces for real daemons; used by the tests and the benchmarks."""
