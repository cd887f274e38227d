//! What the commands that begin a conversation themselves have in common: `push` and `get`.
//!
//! | room | is | pure |
//! |---|---|---|
//! | `url` | where to: scheme, host, port, target | yes |
//! | `response` | the head of an answer | yes |
//! | `body` | the body behind it, by its framing | yes |
//! | `reply` | answers, put together from whatever pieces come | yes |
//! | `digest` | `Repr-Digest` and its kin (RFC 9530) | yes |
//! | `retry` | whether and when to try again | yes |
//! | `secret` | a bearer token that no log shows | yes |
//! | `outcome` | how a file arrived or why it did not; the exit status | yes |
//! | `show` | bars, JSON lines, and the last word | |
//! | `hasher` | the thread that computes digests | |
//! | `wire` | a connection; the one place that knows of plain and of TLS | |
//! | `trust` | whom a client believes to be who | |
//! | `distrust` | why there is no TLS with a server | yes |
//! | `resolve` | names to addresses, on a thread of its own | |
//! | `blocking` | what would hold the loop, on a thread | |

pub(crate) mod blocking;
pub(crate) mod body;
pub(crate) mod digest;
pub(crate) mod distrust;
pub(crate) mod hasher;
pub(crate) mod outcome;
pub(crate) mod reply;
pub(crate) mod resolve;
pub(crate) mod response;
pub(crate) mod retry;
pub(crate) mod secret;
pub(crate) mod show;
pub(crate) mod trust;
pub(crate) mod url;
pub(crate) mod wire;
