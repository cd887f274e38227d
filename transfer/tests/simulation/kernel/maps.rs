//! Mapped windows: pages of a file as they are when somebody looks, or private copies of them; zeros where
//! the file has ended meanwhile.

use std::ops::Range;

use super::{Host, Kernel};
use crate::content::{Origin, Piece, Rope};
use crate::event::{Call, EAGAIN, EFAULT, Outcome};
use crate::scenario::PAGE;

/// A mapping, as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Map {
    inode: usize,
    /// Bytes of the file.
    range: Range<u64>,
    /// What was changed in it, in bytes of the file.
    changed: Vec<Range<u64>>,
    /// A page was gone when somebody touched it.
    poisoned: bool,
    holds: u32,
}

/// Why a range is not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotMapped {
    PastEnd,
    Shortage,
}

impl Kernel {
    fn map(&mut self, by: usize, inode: usize, range: Range<u64>) -> Result<usize, NotMapped> {
        if self.armed(by, Call::Map) != Outcome::Full {
            self.tally.faults += 1;
            return Err(NotMapped::Shortage);
        }
        if range.end > self.inodes[inode].len {
            self.oracle.saw_cut(by);
            return Err(NotMapped::PastEnd);
        }
        let free = self.maps.iter().position(|map| map.holds == 0);
        let map = Map { inode, range, changed: Vec::new(), poisoned: false, holds: 1 };
        match free {
            Some(at) => self.maps[at] = map,
            None => self.maps.push(map),
        }
        Ok(free.unwrap_or(self.maps.len() - 1))
    }

    /// Makes all pages present. What lies in the file's last page is there, whatever its length.
    pub(super) fn populate(&mut self, by: usize, map: usize, outcome: Outcome) -> Result<u64, i32> {
        let len = self.maps[map].range.end - self.maps[map].range.start;
        self.bounded(by, outcome, len)?;
        if self.maps[map].range.end > self.pages_end(map) {
            self.oracle.saw_cut(by);
            return Err(EFAULT);
        }
        Ok(len)
    }

    /// Where the last page of the file under a map ends.
    fn pages_end(&self, map: usize) -> u64 {
        self.inodes[self.maps[map].inode].len.next_multiple_of(PAGE)
    }

    pub(super) fn hold_map(&mut self, map: usize) {
        self.maps[map].holds += 1;
    }

    pub(super) fn release_map(&mut self, map: usize) {
        match self.maps[map].holds.checked_sub(1) {
            Some(holds) => self.maps[map].holds = holds,
            None => self.oracle.violate(0, &format!("map {map} is released twice")),
        }
    }

    /// A range of a file that is mapped.
    pub(crate) fn mapped(&self, file: usize) -> Option<Range<u64>> {
        let is_it = |map: &&Map| map.holds > 0 && map.inode == self.names[file];
        self.maps.iter().find(is_it).map(|map| map.range.clone())
    }

    pub(super) fn maps_held(&self) -> usize {
        self.maps.iter().filter(|map| map.holds > 0).count()
    }

    /// The kernel takes the pages behind the new end away, private ones too.
    pub(super) fn cut_maps(&mut self, inode: usize, len: u64) {
        let end = len.next_multiple_of(PAGE);
        for map in self.maps.iter_mut().filter(|map| map.inode == inode) {
            map.changed.iter_mut().for_each(|range| range.end = range.end.min(end));
            map.changed.retain(|range| range.start < range.end);
        }
    }

    /// What a map shows of a range now, without the pages that are gone.
    fn present(&mut self, by: usize, map: usize, range: Range<u64>) -> Rope {
        let (inode, pages_end) = (self.maps[map].inode, self.pages_end(map));
        let file = &self.inodes[inode];
        let (file_len, version) = (file.len, file.version);
        self.reads += 1;
        let read = self.reads;
        let mut rope = Rope::default();
        let mut at = range.start;
        let end = range.end.min(pages_end.max(range.start));
        while at < end {
            let map = &self.maps[map];
            let inside = map.changed.iter().find(|changed| changed.contains(&at));
            let next = map.changed.iter().map(|changed| changed.start).filter(|from| *from > at);
            let border = [next.min(), (file_len > at).then_some(file_len)].into_iter().flatten();
            let (origin, to) = match inside {
                Some(changed) => (Origin::Changed { inode, at }, changed.end),
                None if at < file_len => {
                    (Origin::File { inode, at, version }, border.min().unwrap_or(end))
                }
                None => (Origin::Hole, border.min().unwrap_or(end)),
            };
            let len = to.min(end) - at;
            rope.push(Piece { owner: by, origin, len, read, by_reference: false });
            at += len;
        }
        rope
    }

    /// Looks at a range: a page that is gone is zeros, and poisons the map.
    fn look(&mut self, by: usize, map: usize, range: Range<u64>) -> Rope {
        let mut seen = self.present(by, map, range.clone());
        let gone = range.end - range.start - seen.len();
        if gone > 0 {
            self.maps[map].poisoned = true;
            self.tally.map_faults += 1;
            seen.push(Piece::of_processor(by, Origin::Hole, gone));
        }
        seen
    }

    /// Whether the file still has all of a range, and no page was gone when it was touched.
    fn is_whole(&mut self, by: usize, map: usize, end: u64) -> bool {
        let Map { inode, poisoned, .. } = self.maps[map];
        let whole = !poisoned && self.inodes[inode].len >= end;
        if !whole {
            self.tally.windows_cut += 1;
            self.maps[map].poisoned = true;
            self.oracle.saw_cut(by);
        }
        whole
    }

    /// A send whose bytes lie here and there. `EFAULT` if the first of them is on a page that is gone.
    pub(crate) fn try_send_from_maps(
        &mut self,
        by: usize,
        pieces: &[Gathered],
        more: bool,
    ) -> Result<u64, i32> {
        let poisoned = |piece: &Gathered| match piece {
            Gathered::Map(map, _) => self.maps[*map].poisoned,
            Gathered::Bytes(_) => false,
        };
        if pieces.iter().any(poisoned) {
            self.oracle.saw_cut(by);
            return Err(EFAULT);
        }
        let mut rope = Rope::default();
        let mut gone = None;
        for piece in pieces {
            match piece {
                Gathered::Bytes(bytes) => rope.append(bytes),
                Gathered::Map(map, range) => {
                    let there = self.present(by, *map, range.clone());
                    rope.append(&there);
                    if there.len() < range.end - range.start {
                        gone = Some(*map);
                        break;
                    }
                }
            }
        }
        if let Some(map) = gone.filter(|_| rope.len() == 0) {
            let socket = &self.sockets[by];
            if socket.queued >= socket.room && !socket.reset {
                return Err(EAGAIN);
            }
            self.maps[map].poisoned = true;
            self.oracle.saw_cut(by);
            return Err(EFAULT);
        }
        self.try_send(by, &rope, more)
    }
}

/// Where the bytes of a piece of a send lie.
pub(crate) enum Gathered {
    Bytes(Rope),
    Map(usize, Range<u64>),
}

/// A window that is held.
pub(crate) struct MapLease {
    host: Host,
    map: usize,
    pub(crate) range: Range<u64>,
}

impl MapLease {
    pub(crate) fn map(
        host: &Host,
        by: usize,
        inode: usize,
        range: Range<u64>,
    ) -> Result<Self, NotMapped> {
        let map = host.borrow_mut().map(by, inode, range.clone())?;
        Ok(Self { host: host.clone(), map, range })
    }

    pub(crate) fn id(&self) -> usize {
        self.map
    }

    pub(crate) fn populate_inline(&self, by: usize) -> Result<u64, i32> {
        self.host.borrow_mut().populate(by, self.map, Outcome::Full)
    }

    pub(crate) fn look(&self, by: usize, range: Range<u64>) -> Rope {
        self.host.borrow_mut().look(by, self.map, range)
    }

    pub(crate) fn is_whole(&self, by: usize) -> bool {
        self.host.borrow_mut().is_whole(by, self.map, self.range.end)
    }

    /// Stores something else into a range of it, which stays with this map.
    pub(crate) fn change(&self, range: Range<u64>) {
        let mut kernel = self.host.borrow_mut();
        let end = kernel.pages_end(self.map);
        let range = range.start..range.end.min(end);
        if range.start < range.end {
            kernel.maps[self.map].changed.push(range);
            kernel.maps[self.map].changed.sort_by_key(|range| range.start);
        }
    }
}

impl Drop for MapLease {
    fn drop(&mut self) {
        self.host.borrow_mut().release_map(self.map);
    }
}
