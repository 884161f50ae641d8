//! From the text of a project file to a [`crate::Project`], or to every error in it.
