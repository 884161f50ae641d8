//! The decisions of Upbeat: gate, instance machine, planner; pure.
