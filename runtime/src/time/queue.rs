//! A queue of deadlines from which any entry can be removed: pure, no clock inside.
//!
//! A binary heap over a slab, where each entry knows its place in the heap. Inserting, removing and
//! taking the nearest cost O(log n) and no allocation once the vectors have grown.

use std::time::Instant;

use slab::Slab;

/// Names one entry. Valid until the entry is removed or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerKey {
    entry: usize,
    generation: u64,
}

struct Entry<T> {
    deadline: Instant,
    generation: u64,
    place: usize,
    value: T,
}

/// See the module.
pub(crate) struct Queue<T> {
    heap: Vec<usize>,
    entries: Slab<Entry<T>>,
    generation: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), entries: Slab::new(), generation: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        self.generation += 1;
        let generation = self.generation;
        let place = self.heap.len();
        let entry = self.entries.insert(Entry { deadline, generation, place, value });
        self.heap.push(entry);
        self.rise(place);
        TimerKey { entry, generation }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| self.entries[*entry].deadline)
    }

    /// Takes the nearest entry if its deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let entry = *self.heap.first()?;
        (self.entries[entry].deadline <= now).then(|| self.take(entry))
    }

    /// Removes an entry; `None` if it is gone already.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.value_mut(key)?;
        Some(self.take(key.entry))
    }

    pub(crate) fn value_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.entry)?;
        (entry.generation == key.generation).then_some(&mut entry.value)
    }

    fn take(&mut self, entry: usize) -> T {
        let entry = self.entries.remove(entry);
        let last = self.heap.len() - 1;
        self.heap.swap(entry.place, last);
        self.heap.pop();
        if entry.place < last {
            self.entries[self.heap[entry.place]].place = entry.place;
            self.rise(entry.place);
            self.sink(entry.place);
        }
        entry.value
    }

    fn deadline(&self, place: usize) -> Instant {
        self.entries[self.heap[place]].deadline
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.entries[self.heap[a]].place = a;
        self.entries[self.heap[b]].place = b;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.deadline(parent) <= self.deadline(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let inside = children.into_iter().filter(|child| *child < self.heap.len());
            let Some(nearest) = inside.min_by_key(|child| self.deadline(*child)) else { return };
            if self.deadline(place) <= self.deadline(nearest) {
                return;
            }
            self.swap(place, nearest);
            place = nearest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A small generator, so that the test needs no clock and no crate.
    fn steps(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        })
    }

    #[test]
    fn it_agrees_with_a_sorted_list() {
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut model: Vec<(Instant, u64, TimerKey)> = Vec::new();
        for (name, step) in (0u64..).zip(steps(7)).take(20_000) {
            match step % 4 {
                0 | 1 => {
                    let deadline = start + Duration::from_micros(step % 1000);
                    model.push((deadline, name, queue.insert(deadline, name)));
                }
                2 if !model.is_empty() => {
                    let (_, name, key) =
                        model.swap_remove(usize::try_from(step).unwrap() % model.len());
                    assert_eq!(queue.remove(key), Some(name));
                    assert_eq!(queue.remove(key), None, "a key is good for one removal");
                }
                _ => {
                    let now = start + Duration::from_micros(step % 300);
                    let nearest = model.iter().map(|row| row.0).min();
                    assert_eq!(queue.next(), nearest);
                    let taken = queue.pop_due(now);
                    assert_eq!(taken.is_some(), nearest.is_some_and(|d| d <= now));
                    if let Some(name) = taken {
                        let at = model.iter().position(|row| row.1 == name).unwrap();
                        assert_eq!(Some(model.swap_remove(at).0), nearest);
                    }
                }
            }
        }
        assert_eq!(queue.heap.len(), model.len());
    }
}
