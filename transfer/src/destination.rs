//! Which way a call of [`transfer_file`](crate::transfer_file) goes: the pair of source and sink names
//! the builder.
//!
//! A trait does this, and not a second kind of source in one builder: so an option that has no meaning
//! in a direction (a range of a stream, the consistency of a file that is being written) does not
//! compile, each direction has errors and a receipt with words of its own, and the types of a plain
//! send are what they were.

use ringway_runtime::fs::File;

use crate::receive::{Incoming, Receive};
use crate::sink::Sink;
use crate::source::Source;
use crate::transfer::{Transfer, into_stream};

/// Something that a transfer can go to: a stream takes a [`Source`], a [`File`] an [`Incoming`].
///
/// The set is closed, because the route depends on both ends.
pub trait Destination<'t, S>: sealed::Sealed {
    /// The transfer to be awaited.
    type Transfer;

    #[doc(hidden)]
    fn order(&'t mut self, source: S) -> Self::Transfer;
}

impl<'t, S: Into<Source>, D: Sink> Destination<'t, S> for D {
    type Transfer = Transfer<'t>;

    fn order(&'t mut self, source: S) -> Transfer<'t> {
        into_stream(source.into(), self)
    }
}

impl<'t, S: Into<Incoming<'t>>> Destination<'t, S> for File {
    type Transfer = Receive<'t>;

    fn order(&'t mut self, source: S) -> Receive<'t> {
        Receive::new(source.into(), self)
    }
}

mod sealed {
    use super::{File, Sink};

    pub trait Sealed {}

    impl<D: Sink> Sealed for D {}
    impl Sealed for File {}
}
