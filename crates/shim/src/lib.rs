//! The small program that owns one process: its tree, its output, its exit.
