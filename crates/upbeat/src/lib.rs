//! The upbeat binary: daemon, command line.
