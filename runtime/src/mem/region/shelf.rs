//! Where the regions of one ring stand: how many there may be, who shares one, which ones are idle.
//!
//! A region that nobody holds stays mapped for a while, because the next one to ask for the same range
//! saves the mapping and the faults. It goes when it has been idle for [`Config::region_idle`], when
//! another region needs its room (the oldest first), or when its file is forgotten. A region that is
//! held cannot be unmapped by anybody.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Access, Hold, Refusal, Region};
use crate::config::Config;
use crate::fault::{Sabotage, sabotaged};
use crate::fs::Metadata;
use crate::stats::Counters;
use crate::wake::Remote;

/// From how much of a cap on there is a warning, in eighths.
const HIGH_WATER_EIGHTHS: u64 = 7;
/// Below how much the next crossing is worth another one.
const LOW_WATER_EIGHTHS: u64 = 6;
/// And how often there is one at most, for those who go up and down.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// What a shared region is found by. The mapping keeps the inode, so its number stays its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    device: u64,
    inode: u64,
    start: u64,
    len: u64,
    access: Access,
}

impl Key {
    /// `None` for what nobody else may see: pages that are private.
    pub(super) fn new(file: &Metadata, start: u64, len: u64, access: Access) -> Option<Self> {
        let (device, inode) = (file.device, file.inode);
        (access != Access::Private).then_some(Self { device, inode, start, len, access })
    }
}

/// The regions of one ring; other threads can release what they hold.
pub(crate) struct Shelf {
    regions_max: u64,
    bytes_max: u64,
    idle_max: Duration,
    state: Mutex<State>,
    tallies: Tallies,
    /// Wakes the ring when there is something to clean later.
    remote: Arc<Remote>,
}

#[derive(Default)]
struct State {
    known: HashMap<Key, Arc<Region>>,
    /// Oldest first, by stamps that only grow.
    idle: VecDeque<Idle>,
    stamp: u64,
    warned: Option<Instant>,
    /// How often that was.
    warnings: u64,
    /// What is mapped has crossed the high water mark, and has not fallen below the low one since.
    high: bool,
    /// The ring is gone: nothing is kept any more.
    closed: bool,
}

struct Idle {
    stamp: u64,
    since: Instant,
    key: Key,
}

/// What is counted, from any thread.
#[derive(Default)]
pub(super) struct Tallies {
    regions: AtomicU64,
    bytes: AtomicU64,
    idle: AtomicUsize,
    pub(super) mapped: AtomicU64,
    reused: AtomicU64,
    evicted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) faults: Arc<AtomicU64>,
    pub(super) populated_bytes: AtomicU64,
}

impl Shelf {
    pub(crate) fn new(config: &Config, remote: Arc<Remote>) -> Arc<Self> {
        Arc::new(Self {
            regions_max: config.regions_max.into(),
            bytes_max: config.region_bytes_max,
            idle_max: config.region_idle,
            state: Mutex::default(),
            tallies: Tallies::default(),
            remote,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing of the user's runs under the lock, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// A region that is mapped already, held once more.
    pub(super) fn find(&self, key: Option<&Key>) -> Option<Hold> {
        let key = key?;
        let mut state = self.state();
        let region = Arc::clone(state.known.get(key)?);
        if region.known_poison().is_err() {
            // Whoever holds it learns that; the next one gets new pages.
            state.forget(key, &self.tallies);
            drop(state);
            return None;
        }
        if region.holds.fetch_add(1, Ordering::Relaxed) == 0 {
            state.wake(region.stamp.load(Ordering::Relaxed), &self.tallies);
        }
        drop(state);
        add(&self.tallies.reused, 1);
        Some(Hold(region))
    }

    /// Makes room for a region of so many bytes, and counts it. Evicts idle ones, the oldest first.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Refusal> {
        loop {
            let mut state = self.state();
            let regions = self.tallies.regions.load(Ordering::Relaxed) + 1;
            let all = self.tallies.bytes.load(Ordering::Relaxed).saturating_add(bytes);
            let fits = regions <= self.regions_max && all <= self.bytes_max;
            if fits || sabotaged(Sabotage::RegionsNotCounted) {
                add(&self.tallies.regions, 1);
                add(&self.tallies.bytes, bytes);
                // Nothing but this adds to it, so it is never lower than before this.
                state.high &= self.is_near(regions - 1, all - bytes, LOW_WATER_EIGHTHS);
                let warns = self.is_near(regions, all, HIGH_WATER_EIGHTHS) && state.may_warn();
                drop(state);
                if warns {
                    tracing::warn!(regions, bytes = all, "mapped regions are near their limits");
                }
                return Ok(());
            }
            // What is held is no reason to evict for a range that would not fit anyway.
            let evicted =
                if bytes > self.bytes_max { None } else { state.pop(None, &self.tallies) };
            drop(state);
            // Unmapped here, outside of the lock, so that the next round sees the room.
            match evicted {
                Some(region) => self.evict(region),
                None if regions > self.regions_max => return Err(Refusal::RegionsMax),
                None => return Err(Refusal::BytesMax),
            }
        }
    }

    fn is_near(&self, regions: u64, bytes: u64, eighths: u64) -> bool {
        let near = |value: u64, limit: u64| value >= limit / 8 * eighths && limit >= 8;
        near(regions, self.regions_max) || near(bytes, self.bytes_max)
    }

    /// Unmaps the idle region that is oldest; `false` if none is idle.
    pub(super) fn evict_oldest(&self) -> bool {
        let oldest = self.state().pop(None, &self.tallies);
        oldest.map(|region| self.evict(region)).is_some()
    }

    fn evict(&self, region: Arc<Region>) {
        drop(region);
        add(&self.tallies.evicted, 1);
    }

    /// Lets others find a new region, unless it is nobody else's.
    pub(super) fn admit(&self, region: Region) -> Hold {
        let region = Arc::new(region);
        let mut state = self.state();
        if let Some(key) = region.key
            && !state.closed
        {
            // Two can have mapped the same at once: then the second stays unknown.
            state.known.entry(key).or_insert_with(|| Arc::clone(&region));
        }
        drop(state);
        Hold(region)
    }

    /// A hold ends. What nobody holds any more becomes idle, or goes at once.
    pub(super) fn release(&self, region: &Arc<Region>) {
        let mut state = self.state();
        if region.holds.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        if region.locked.swap(false, Ordering::Relaxed) {
            region.pages.unlock();
        }
        let Some(key) = region.key else { return };
        let known = state.known.get(&key).is_some_and(|known| Arc::ptr_eq(known, region));
        if !known {
            return;
        }
        if state.closed || self.idle_max.is_zero() || region.known_poison().is_err() {
            let gone = state.known.remove(&key);
            drop(state);
            drop(gone);
            return;
        }
        state.stamp += 1;
        let stamp = state.stamp;
        region.stamp.store(stamp, Ordering::Relaxed);
        let first = state.idle.is_empty();
        state.idle.push_back(Idle { stamp, since: Instant::now(), key });
        self.tallies.idle.store(state.idle.len(), Ordering::Release);
        drop(state);
        if first {
            // The ring may be waiting without a deadline.
            self.remote.leave(|_| ());
        }
    }

    /// A region was unmapped.
    pub(super) fn unmapped(&self, bytes: u64) {
        self.tallies.regions.fetch_sub(1, Ordering::Relaxed);
        self.tallies.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Unmaps what belongs to a file and is idle, and keeps what is held from being found again. Returns
    /// how many were unmapped.
    pub(super) fn forget(&self, file: &Metadata) -> usize {
        let mut gone = Vec::new();
        let mut state = self.state();
        let of_file = |key: &Key| key.device == file.device && key.inode == file.inode;
        let State { known, idle, .. } = &mut *state;
        idle.retain(|place| !of_file(&place.key));
        self.tallies.idle.store(idle.len(), Ordering::Release);
        known.retain(|key, region| {
            if of_file(key) && region.holds.load(Ordering::Relaxed) == 0 {
                gone.push(Arc::clone(region));
            }
            !of_file(key)
        });
        drop(state);
        let count = gone.len();
        gone.into_iter().for_each(|region| self.evict(region));
        count
    }

    /// When something will have been idle for long enough.
    pub(crate) fn next_cleaning(&self) -> Option<Instant> {
        if self.tallies.idle.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.state().idle.front().and_then(|oldest| oldest.since.checked_add(self.idle_max))
    }

    /// The cleaner: unmaps what has been idle for long enough, the oldest first.
    pub(crate) fn clean(&self) {
        if self.tallies.idle.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = Instant::now();
        let Some(latest) = now.checked_sub(self.idle_max) else { return };
        loop {
            let Some(region) = self.state().pop(Some(latest), &self.tallies) else { return };
            self.evict(region);
        }
    }

    /// The ring ends: what is idle is unmapped now, and what is held when it is released.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.idle.clear();
        self.tallies.idle.store(0, Ordering::Release);
        let known = std::mem::take(&mut state.known);
        drop(state);
        drop(known);
    }

    /// Writes what was counted where the ring's counters are.
    pub(crate) fn report(&self, counters: &Counters) {
        let of = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let tallies = &self.tallies;
        counters.regions.set(of(&tallies.regions));
        counters.region_bytes.set(of(&tallies.bytes));
        counters.regions_idle.set(tallies.idle.load(Ordering::Relaxed) as u64);
        counters.regions_mapped.set(of(&tallies.mapped));
        counters.regions_reused.set(of(&tallies.reused));
        counters.regions_evicted.set(of(&tallies.evicted));
        counters.regions_refused.set(of(&tallies.refused));
        counters.region_faults.set(of(&tallies.faults));
        counters.region_populated_bytes.set(of(&tallies.populated_bytes));
    }
}

impl State {
    /// Takes the oldest idle region out, if it is idle since `latest` or longer.
    fn pop(&mut self, latest: Option<Instant>, tallies: &Tallies) -> Option<Arc<Region>> {
        let oldest = self.idle.front()?;
        if latest.is_some_and(|latest| oldest.since > latest) {
            return None;
        }
        let key = oldest.key;
        self.idle.pop_front();
        tallies.idle.store(self.idle.len(), Ordering::Release);
        self.known.remove(&key)
    }

    /// What was idle is held again.
    fn wake(&mut self, stamp: u64, tallies: &Tallies) {
        if let Ok(place) = self.idle.binary_search_by_key(&stamp, |idle| idle.stamp) {
            self.idle.remove(place);
        }
        tallies.idle.store(self.idle.len(), Ordering::Release);
    }

    /// Nobody finds it any more.
    fn forget(&mut self, key: &Key, tallies: &Tallies) {
        if let Some(region) = self.known.remove(key) {
            self.wake(region.stamp.load(Ordering::Relaxed), tallies);
        }
    }

    /// Whether this crossing of the high water mark is told of: each one, but not too often.
    fn may_warn(&mut self) -> bool {
        let crossed = !std::mem::replace(&mut self.high, true);
        let now = Instant::now();
        let long_ago = |last| now.duration_since(last) >= WARNING_PAUSE;
        let may = crossed && self.warned.is_none_or(long_ago);
        if may {
            self.warned = Some(now);
            self.warnings += 1;
        }
        may
    }
}

fn add(tally: &AtomicU64, amount: u64) {
    tally.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_told_of_when_it_is_crossed_and_not_again_before_the_low_one() {
        let config = Config { regions_max: 16, region_bytes_max: 1 << 20, ..Config::default() };
        let shelf = Shelf::new(&config, Remote::new().unwrap());
        // What is written to the log by then depends on who listens, in this thread and in others.
        let told = || shelf.state().warnings;
        let up = |count: u64, bytes| (0..count).for_each(|_| shelf.reserve(bytes).unwrap());
        let down = |count: u64, bytes| (0..count).for_each(|_| shelf.unmapped(bytes));
        let a_minute_passes = || {
            let mut state = shelf.state();
            state.warned = state.warned.and_then(|warned| warned.checked_sub(2 * WARNING_PAUSE));
        };
        up(13, 1);
        assert_eq!(told(), 0, "below seven eighths of the regions");
        up(1, 1);
        assert_eq!(told(), 1);
        a_minute_passes();
        up(2, 1);
        assert_eq!(told(), 1, "above, for however long");
        down(4, 1);
        up(4, 1);
        assert_eq!(told(), 1, "it was not below three quarters");
        down(5, 1);
        up(5, 1);
        assert_eq!(told(), 2, "it was");
        down(16, 1);
        up(14, 1);
        assert_eq!(told(), 2, "crossed again within the minute");
        down(14, 1);
        a_minute_passes();
        up(7, 1 << 17);
        assert_eq!(told(), 3, "seven eighths of the bytes");
    }

    #[test]
    fn what_was_reserved_and_unmapped_is_free_again() {
        let config = Config { regions_max: 2, region_bytes_max: 8192, ..Config::default() };
        let shelf = Shelf::new(&config, Remote::new().unwrap());
        shelf.reserve(4096).unwrap();
        assert_eq!(shelf.reserve(8192), Err(Refusal::BytesMax));
        shelf.reserve(4096).unwrap();
        assert_eq!(shelf.reserve(0), Err(Refusal::RegionsMax));
        shelf.unmapped(4096);
        shelf.reserve(4096).unwrap();
    }
}
