//! The plan that is armed, and how operations are counted against it.

use std::cell::RefCell;

/// What happens to the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this errno.
    Errno(i32),
    /// It moves at most this many bytes.
    Short(u32),
}

/// What an armed plan has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations counted since the plan was armed.
    pub seen: u64,
    /// Name of the operation that was hit, if it came to that.
    pub fired: Option<&'static str>,
}

#[derive(Debug)]
struct Plan {
    kth: u64,
    only: Option<&'static str>,
    fault: Fault,
    report: Report,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Arms a fault for the operation number `kth` from now on, counted from 0, of this thread.
///
/// ```
/// use ringway_runtime::fault::{self, Fault};
///
/// fault::arm(3, Fault::Errno(5));
/// let report = fault::disarm();
/// assert_eq!((report.seen, report.fired), (0, None));
/// ```
pub fn arm(kth: u64, fault: Fault) {
    PLAN.set(Some(Plan { kth, only: None, fault, report: Report::default() }));
}

/// Like [`arm`], but counts only operations of one name (`"splice"`, `"send"`, `"poll"`, …).
pub fn arm_for(name: &'static str, kth: u64, fault: Fault) {
    PLAN.set(Some(Plan { kth, only: Some(name), fault, report: Report::default() }));
}

/// Ends the plan and tells what it saw.
pub fn disarm() -> Report {
    PLAN.take().map_or_else(Report::default, |plan| plan.report)
}

/// Counts an operation, and says what is to happen to it.
pub(crate) fn next(name: &'static str) -> Option<Fault> {
    PLAN.with_borrow_mut(|plan| {
        let plan = plan.as_mut()?;
        if plan.only.is_some_and(|only| only != name) {
            return None;
        }
        let number = plan.report.seen;
        plan.report.seen += 1;
        (number == plan.kth).then(|| {
            plan.report.fired = Some(name);
            plan.fault
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kth_operation_is_hit_once() {
        arm(1, Fault::Short(7));
        assert_eq!(next("read"), None);
        assert_eq!(next("send"), Some(Fault::Short(7)));
        assert_eq!(next("send"), None);
        assert_eq!(disarm(), Report { seen: 3, fired: Some("send") });
    }

    #[test]
    fn a_plan_can_count_one_name_only() {
        arm_for("splice", 0, Fault::Errno(5));
        assert_eq!(next("read"), None);
        assert_eq!(next("splice"), Some(Fault::Errno(5)));
        assert_eq!(disarm().seen, 1);
        assert_eq!(next("splice"), None);
    }
}
