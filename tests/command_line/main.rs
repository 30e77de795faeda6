//! The program as a user runs it: the real binary, its files, its exit codes.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod benchmark;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod device;
#[cfg(test)]
mod encoders;
#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod interruption;
#[cfg(test)]
mod label_efficiency;
#[cfg(test)]
mod others_programs;
#[cfg(test)]
mod support;
