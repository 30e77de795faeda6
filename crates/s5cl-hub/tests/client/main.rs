//! The client against a Hub on this machine.

#![cfg_attr(feature = "client", expect(clippy::unwrap_used, reason = "a test fails by panicking"))]

#[cfg(feature = "client")]
mod mock;

#[cfg(feature = "client")]
mod cached;
#[cfg(feature = "client")]
mod refused;
#[cfg(feature = "client")]
mod transfer;

#[test]
#[cfg(not(feature = "client"))]
fn client_is_tested_where_it_is_built() {
    println!("skipped: built without hub");
}
