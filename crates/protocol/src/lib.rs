//! What a nemoterm client and the daemon say to each other, over one Unix socket.
//!
//! # The conversation
//!
//! Each side sends frames. A frame is a length (4 bytes, unsigned, little-endian) and that many
//! bytes of JSON, one message. A length over [`MAX_FRAME`] ends the conversation before any memory is taken for
//! it. Unknown fields are ignored and missing optional ones take their defaults, so that a release
//! can talk to its neighbours.
//!
//! The client speaks first, with [`Hello`]. The daemon answers [`Welcome`], which names its
//! version, and from then on each [`Request`] gets one [`Reply`]; requests and replies that
//! concern a completion carry its `id`, chosen by the client. `status` and `stop` are understood in every version: their
//! meaning never changes, whatever [`VERSION`] says.
//!
//! What came later than the first release is said only to who has told that it knows it: a [`Request::Count`] and a
//! [`Request::Stats`] only where [`Welcome::stats`] is there.
//!
//! A connection is one shell. Its newest [`Complete`] replaces the one before: a replaced request
//! is never answered. A client that hangs up cancels what it asked for.
//!
//! # Who may talk
//!
//! The socket lies in a directory that belongs to the user, mode 0700, and both sides check that
//! the other runs as the same user ([`runtime`], [`client`]). Nothing that arrives is executed.
//!
//! # Time
//!
//! Everything has a deadline: connecting, the handshake, each half-sent frame, and each answer
//! ([`Complete::budget_ms`], [`Complete::wait_ms`]).

pub mod client;
pub mod frame;
mod message;
pub mod outline;
pub mod runtime;
pub mod stats;

pub use frame::MAX_FRAME;
pub use message::*;

/// The version of the messages. It changes when a message changes its meaning, not when a field is added.
pub const VERSION: u32 = 1;
