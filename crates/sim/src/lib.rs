//! Seeded simulator of instance machines under faults, with checkers.
