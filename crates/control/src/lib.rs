//! The fleet: apps, releases, operations and events.
