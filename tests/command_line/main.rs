//! The program as a user runs it: the real binary, its files, its exit codes.

mod bad_input;
mod commands;
mod interruption;
mod support;
