//! One machine: observe, decide, perform; owns its slots.
