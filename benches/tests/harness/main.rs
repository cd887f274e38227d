//! The harness proves itself: on what is wrong or slow on purpose it must say so.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod arms;
mod bystander;
mod files;
mod leftovers;
mod open_loop;
mod servers;
mod support;
mod tls;
