//! The slots: a slab with generations, so that a stale completion is seen and not believed.

use std::io;
use std::mem::forget;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::Waker;

use slab::Slab;

use super::{Aftermath, Effect, Heir, Held, Outcome};
use crate::fault::{Sabotage, sabotaged};
use crate::sys::ring::Cqe;
use crate::sys::sqe::Sqe;

/// The tag of cancellations: their completions carry no news.
pub(crate) const CANCEL_TAG: u64 = u64::MAX;
/// The tag of the op that waits for the doorbell.
pub(crate) const DOORBELL_TAG: u64 = u64::MAX - 1;

/// In the result of a notification: the kernel copied the bytes after all.
const NOTIFICATION_COPIED: i32 = i32::MIN;

/// Names one op for as long as the ring lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The form in which a key travels through the kernel.
    pub(crate) fn tag(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[expect(clippy::cast_possible_truncation, reason = "both halves are cut on purpose")]
    fn from_tag(tag: u64) -> Self {
        Self { index: tag as u32, generation: (tag >> 32) as u32 }
    }

    fn place(self) -> usize {
        self.index as usize
    }
}

struct Slot {
    generation: u32,
    held: Held,
    effect: Effect,
    completions_left: u32,
    result: Option<i32>,
    opened: Option<OwnedFd>,
    terminal: bool,
    /// Nobody waits for the result any more.
    abandoned: bool,
    /// The result was taken while the kernel still needed what the slot holds.
    taken: bool,
    /// Another completion comes for each event, and the future takes one result after another.
    standing: bool,
    waker: Option<Waker>,
    /// Who gets the outcome of an orphan.
    heir: Option<Heir>,
}

impl Slot {
    fn outcome(self, result: i32) -> Outcome {
        Outcome { result: moved(result), held: self.held, opened: self.opened, more: false }
    }
}

fn moved(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// What a completion changed, for the counters.
pub(super) struct News {
    pub(super) completions_retired: u32,
    pub(super) terminal: bool,
    pub(super) orphan: bool,
    pub(super) copied: bool,
}

/// What became of an op whose future was dropped. What it carries is only there to be dropped.
#[expect(dead_code, reason = "carried out of the table to be dropped, never read")]
pub(super) enum Abandoned {
    /// Nothing is in flight any more.
    Over(Option<(Held, Option<OwnedFd>)>),
    /// The kernel may still touch what the slot holds.
    Orphan(Option<Waker>),
}

#[derive(Default)]
pub(super) struct Table {
    slots: Slab<Slot>,
    next_generation: u32,
}

impl Table {
    pub(super) fn insert(&mut self, held: Held, effect: Effect, sqe: &Sqe) -> Key {
        self.next_generation = self.next_generation.wrapping_add(1) & 0x7fff_ffff;
        let generation = self.next_generation;
        let slot = Slot {
            generation,
            held,
            effect,
            completions_left: sqe.completions_max(),
            result: None,
            opened: None,
            terminal: false,
            abandoned: false,
            taken: false,
            standing: sqe.is_standing(),
            waker: None,
            heir: None,
        };
        let index = u32::try_from(self.slots.insert(slot)).unwrap_or(u32::MAX);
        Key { index, generation }
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.place()).filter(|slot| slot.generation == key.generation)
    }

    pub(super) fn is_in_flight(&self, key: Key) -> bool {
        let slot = self.slots.get(key.place());
        slot.is_some_and(|slot| slot.generation == key.generation && !slot.terminal)
    }

    pub(super) fn in_flight(&self) -> Vec<Key> {
        let live = self.slots.iter().filter(|(_, slot)| !slot.terminal);
        live.map(|(index, slot)| Key {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: slot.generation,
        })
        .collect()
    }

    /// Records a completion; `None` if no op claims it.
    pub(super) fn record(&mut self, cqe: Cqe, after: &mut Aftermath) -> Option<News> {
        let key = Key::from_tag(cqe.user_data);
        let slot = self.slot(key)?;
        if !cqe.notification && slot.result.is_none() {
            slot.result = Some(cqe.result);
            slot.held.arrive(slot.effect, cqe.result);
            // The count is exact now, though a zero-copy send may keep its buffer for long.
            if let Some(flow) = slot.held.sender(slot.effect) {
                flow.collect_waiters(&mut after.wakers);
            }
            if slot.effect == Effect::Descriptor && cqe.result >= 0 {
                // SAFETY: the kernel has just made this descriptor for this op, so nobody else
                // owns it.
                slot.opened = Some(unsafe { OwnedFd::from_raw_fd(cqe.result) });
            }
            after.wakers.extend(slot.waker.take());
        } else if let (true, Some(before)) = (slot.standing && cqe.result >= 0, slot.result) {
            // Nobody has looked since the last one: the events of both.
            slot.result = Some(before | cqe.result);
        }
        let retired = match cqe.more {
            true if slot.standing => 0,
            true => slot.completions_left.min(1),
            false => slot.completions_left,
        };
        slot.completions_left -= retired;
        slot.terminal = !cqe.more;
        let copied = cqe.notification && cqe.result == NOTIFICATION_COPIED;
        if let (true, Some(flow)) = (copied, &slot.held.flow) {
            flow.count_copied();
        }
        let news = News {
            completions_retired: retired,
            terminal: slot.terminal,
            orphan: slot.abandoned && !slot.taken,
            copied,
        };
        if slot.terminal && slot.abandoned {
            let mut slot = self.slots.remove(key.place());
            forget(slot.opened.take_if(|_| sabotaged(Sabotage::OrphanDescriptorLeaked)));
            forget(slot.held.memory.take_if(|_| sabotaged(Sabotage::OrphanLeaseLost)));
            match (slot.heir.take(), slot.result) {
                (Some(heir), Some(result)) => after.inherited.push((heir, slot.outcome(result))),
                _ => after.released.push((slot.held, slot.opened)),
            }
        }
        Some(news)
    }

    /// Takes the result if it is there; otherwise remembers whom to wake, and gives the waker back
    /// that is not needed any more: dropping it may run anything, so not in here.
    pub(super) fn take(&mut self, key: Key, waker: &Waker) -> Result<Outcome, Option<Waker>> {
        let Some(slot) = self.slot(key) else { return Err(None) };
        let Some(result) = slot.result else {
            let known = slot.waker.as_ref().is_some_and(|known| known.will_wake(waker));
            return Err(if known { None } else { slot.waker.replace(waker.clone()) });
        };
        if slot.terminal {
            return Ok(self.slots.remove(key.place()).outcome(result));
        }
        let result = moved(result);
        if slot.standing {
            slot.result = None;
            return Ok(Outcome { result, held: Held::default(), opened: None, more: true });
        }
        slot.abandoned = true;
        slot.taken = true;
        Ok(Outcome { result, held: Held::default(), opened: slot.opened.take(), more: false })
    }

    /// Names who gets the outcome of an op that is about to be abandoned in flight.
    pub(super) fn bequeath(&mut self, key: Key, heir: Heir) {
        if let Some(slot) = self.slot(key) {
            slot.heir = Some(heir);
        }
    }

    /// The future was dropped. Gives back what the slot held if nothing is in flight any more, and
    /// otherwise the waker, to be dropped outside.
    pub(super) fn abandon(&mut self, key: Key) -> Abandoned {
        let Some(slot) = self.slot(key) else { return Abandoned::Over(None) };
        if slot.terminal {
            let slot = self.slots.remove(key.place());
            return Abandoned::Over(Some((slot.held, slot.opened)));
        }
        slot.abandoned = true;
        drop(slot.held.memory.take_if(|_| sabotaged(Sabotage::BufferFreedOnDrop)));
        Abandoned::Orphan(slot.waker.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn cqe(key: Key, result: i32) -> Cqe {
        Cqe { user_data: key.tag(), result, more: false, notification: false }
    }

    #[test]
    fn a_stale_completion_is_detected() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let first = table.insert(Held::default(), Effect::None, &Sqe::nop());
        assert!(table.record(cqe(first, 0), &mut after).is_some());
        assert!(table.take(first, Waker::noop()).is_ok());
        let second = table.insert(Held::default(), Effect::None, &Sqe::nop());
        assert_eq!(first.index, second.index, "the place is used again");
        assert!(table.record(cqe(first, 0), &mut after).is_none());
        assert!(table.is_in_flight(second));
    }

    #[test]
    fn what_an_op_holds_stays_until_its_last_completion() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let file: Arc<OwnedFd> = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        let held = Held { file: Some(Arc::clone(&file)), ..Held::default() };
        let sqe = Sqe::send_zero_copy(0, std::ptr::null(), 0, false);
        let key = table.insert(held, Effect::None, &sqe);
        let first = Cqe { more: true, ..cqe(key, 5) };
        let news = table.record(first, &mut after).unwrap();
        assert_eq!((news.completions_retired, news.terminal), (1, false));
        let early = table.take(key, Waker::noop()).ok().unwrap();
        assert_eq!(early.result.unwrap(), 5);
        assert_eq!(Arc::strong_count(&file), 2, "the slot keeps what the kernel needs");
        let last = Cqe { notification: true, ..cqe(key, NOTIFICATION_COPIED) };
        let news = table.record(last, &mut after).unwrap();
        assert!(news.terminal && news.copied && !news.orphan);
        after.settle();
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn a_poll_that_stands_brings_one_result_after_another() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let key = table.insert(Held::default(), Effect::None, &Sqe::standing_poll(0, 1));
        let event = |result| Cqe { more: true, ..cqe(key, result) };
        assert!(table.take(key, Waker::noop()).is_err());
        for result in [1, 0x2000] {
            let news = table.record(event(result), &mut after).unwrap();
            assert_eq!((news.completions_retired, news.terminal), (0, false));
        }
        let outcome = table.take(key, Waker::noop()).ok().unwrap();
        assert!(outcome.more && outcome.result.unwrap() == 0x2001, "the events of both");
        assert!(table.take(key, Waker::noop()).is_err(), "each is told once");
        table.record(event(1), &mut after).unwrap();
        let news = table.record(cqe(key, -libc::ECANCELED), &mut after).unwrap();
        assert_eq!((news.completions_retired, news.terminal), (1, true));
        let outcome = table.take(key, Waker::noop()).ok().unwrap();
        assert!(!outcome.more && outcome.result.unwrap() == 1, "what came before its end");
        assert!(!table.is_in_flight(key));
    }

    #[test]
    fn a_zero_copy_send_is_counted_before_its_buffer_is_free() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let socket = std::fs::File::open("/dev/null").unwrap();
        let flow = Arc::new(super::super::Flow::new(socket.into()));
        let mut held = Held { flow: Some(Arc::clone(&flow)), ..Held::default() };
        held.depart(Effect::Accepted);
        let sqe = Sqe::send_zero_copy(0, std::ptr::null(), 0, false);
        let key = table.insert(held, Effect::Accepted, &sqe);
        flow.wake_when_exact(Waker::noop());
        table.record(Cqe { more: true, ..cqe(key, 5) }, &mut after).unwrap();
        assert!(flow.is_exact(), "settling must not wait for the peer's acknowledgement");
        assert_eq!((flow.accepted(), after.wakers.len()), (5, 1));
        table.record(Cqe { notification: true, ..cqe(key, 0) }, &mut after).unwrap();
        assert!(flow.is_exact());
    }

    #[test]
    fn an_heir_gets_what_an_orphan_held_and_what_became_of_it() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let file: Arc<OwnedFd> = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        let held = Held { file: Some(Arc::clone(&file)), ..Held::default() };
        let key = table.insert(held, Effect::None, &Sqe::nop());
        let (give, take) = std::sync::mpsc::channel();
        let heir = move |outcome: Outcome| give.send((outcome.result, outcome.held)).unwrap();
        table.bequeath(key, Box::new(heir));
        assert!(matches!(table.abandon(key), Abandoned::Orphan(_)));
        assert!(table.record(cqe(key, 7), &mut after).unwrap().orphan);
        assert!(take.try_recv().is_err(), "nothing runs while completions are recorded");
        after.settle();
        let (result, held) = take.try_recv().unwrap();
        assert_eq!((result.unwrap(), Arc::strong_count(&file)), (7, 2));
        drop(held);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn an_orphan_closes_the_descriptor_that_it_brings() {
        let mut table = Table::default();
        let mut after = Aftermath::default();
        let key = table.insert(Held::default(), Effect::Descriptor, &Sqe::nop());
        assert!(matches!(table.abandon(key), Abandoned::Orphan(_)));
        let made = std::os::fd::IntoRawFd::into_raw_fd(std::fs::File::open("/dev/null").unwrap());
        let news = table.record(cqe(key, made), &mut after).unwrap();
        assert!(news.orphan);
        let link = format!("/proc/self/fd/{made}");
        assert_eq!(std::fs::read_link(&link).unwrap().as_os_str(), "/dev/null");
        assert_eq!(after.released.len(), 1);
        after.settle();
    }
}
