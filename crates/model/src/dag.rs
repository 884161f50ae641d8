//! Directed acyclic graphs: levels, order, subsets, cycles, critical path.
