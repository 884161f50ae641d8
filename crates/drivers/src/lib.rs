//! What else touches the machine: starting shims, reading logs, probing.
