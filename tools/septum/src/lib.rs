//! The PC tool.
