//! Laws of one slot, in virtual time.
