//! State that survives: an etcd-shaped store and an append-only journal.
