//! Settings of one transfer: the defaults, the caller's own, or borrowed from the caller.

use std::ops::Deref;

use crate::limits::{Limits, Thresholds};

/// [`Limits`] or [`Thresholds`] for one transfer. A server that has the same ones for every transfer
/// passes a reference, which copies nothing.
///
/// ```
/// use ringway::Setting;
/// use ringway::limits::Limits;
///
/// let mine = Limits::default().with_pipes_max(1);
/// let borrowed = Setting::from(&mine);
/// assert_eq!(borrowed.pipes_max, 1);
/// ```
#[derive(Debug)]
pub struct Setting<'t, T>(Place<'t, T>);

#[derive(Debug)]
enum Place<'t, T> {
    Borrowed(&'t T),
    Own(Box<T>),
}

impl<T: Clone> Setting<'_, T> {
    /// Changes it for this transfer alone.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut T)) {
        let mut own = match &self.0 {
            Place::Borrowed(value) => Box::new(T::clone(value)),
            Place::Own(value) => value.clone(),
        };
        change(&mut own);
        self.0 = Place::Own(own);
    }
}

impl<T> Deref for Setting<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Place::Borrowed(value) => value,
            Place::Own(value) => value,
        }
    }
}

impl<'t, T> From<&'t T> for Setting<'t, T> {
    fn from(value: &'t T) -> Self {
        Self(Place::Borrowed(value))
    }
}

impl From<Limits> for Setting<'_, Limits> {
    fn from(value: Limits) -> Self {
        Self(Place::Own(Box::new(value)))
    }
}

impl From<Thresholds> for Setting<'_, Thresholds> {
    fn from(value: Thresholds) -> Self {
        Self(Place::Own(Box::new(value)))
    }
}
