//! The reader of records, with everything that a peer who has the keys can seal.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| ringway::tls::fuzzing::records(script));
