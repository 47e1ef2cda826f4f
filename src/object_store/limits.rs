use super::PartRules;
use super::gathering::Cutting;

/// Up to here an object is sent as one request.
const SMALL_BYTES: u64 = 5 << 20;
/// This fraction of the budget is for what the connections themselves hold.
const CONNECTIONS: u64 = 16;
/// Into how many parts the budget is cut. More would each cost a request and hardly be faster; and what Cloud Storage
/// composes of 32 objects has room for them and for what was composed before.
const PARTS: u64 = 24;
/// A larger budget is cut into more parts, because a connection is no faster for larger ones.
const LARGE_BYTES: u64 = 8 << 20;
/// The same where one part travels at a time: the next ones wait for it.
const PARTS_IN_A_ROW: u64 = 4;
/// The size of the buffers that short pieces are copied to.
const BUFFER_BYTES: u64 = 1 << 20;

/// How much an upload holds, and how it is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most bytes that travel and wait.
    pub(super) budget: u64,
    /// The size of the first parts, where it does not follow from the budget.
    part_bytes: Option<u64>,
    /// The most parts that travel.
    pub(super) parallel: usize,
}

impl Limits {
    /// With this memory in all.
    pub(super) fn within(budget: u64) -> Self {
        Self { budget: (budget - budget / CONNECTIONS).max(1), part_bytes: None, parallel: usize::MAX }
    }

    /// With parts of this size, so many of which travel.
    pub(super) fn of(part_bytes: u64, parallel: usize) -> Self {
        let budget = part_bytes.saturating_mul((parallel as u64).saturating_add(1));
        Self { budget, part_bytes: Some(part_bytes), parallel }
    }

    pub(super) fn small_bytes(&self) -> u64 {
        self.part_bytes.unwrap_or(SMALL_BYTES.min(self.budget))
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        let bytes = BUFFER_BYTES.min(self.part_bytes.unwrap_or(self.budget / PARTS));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The size of the part of this number, and where it may end.
    pub(super) fn part(&self, rules: &PartRules, number: u32) -> (u64, Cutting) {
        let base = self.part_bytes.unwrap_or_else(|| {
            let wanted =
                if rules.parallel { (self.budget / PARTS).min(LARGE_BYTES) } else { self.budget / PARTS_IN_A_ROW };
            let least = wanted.clamp(rules.min_bytes, rules.max_bytes);
            // All of the budget, in whole parts.
            self.budget / (self.budget / least).max(1)
        });
        let bytes = rules.part_bytes(base, number);
        let exact = rules.multiple_of > 1 || rules.max_bytes - bytes < BUFFER_BYTES;
        (bytes, if exact { Cutting::Exact } else { Cutting::Anywhere })
    }

    /// The most bytes that are held. One part fits always, and what it may have to be longer by.
    pub(super) fn most(&self, rules: &PartRules, number: u32) -> u64 {
        let (part, _) = self.part(rules, number);
        (part + part / 2 + BUFFER_BYTES.min(part)).max(self.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_budget_is_cut_into_whole_parts() {
        let rules = |min_bytes, multiple_of, parallel| PartRules {
            min_bytes,
            multiple_of,
            max_bytes: 5 << 30,
            max_parts: 10_000,
            parallel,
        };
        let limits = Limits::within(64 * MIB);
        assert_eq!(limits.part(&rules(5 * MIB, 1, true), 0), (5 * MIB, Cutting::Anywhere));
        assert_eq!(limits.part(&rules(1, 1, true), 0), (5 * MIB / 2, Cutting::Anywhere));
        assert_eq!(limits.part(&rules(MIB / 4, MIB / 4, false), 0), (15 * MIB, Cutting::Exact));
        assert_eq!(limits.part(&rules(5 * MIB, 1, true), 1_000), (10 * MIB, Cutting::Anywhere));
        assert_eq!(limits.most(&rules(5 * MIB, 1, true), 0), 60 * MIB);
        let wide = Limits::within(1024 * MIB);
        assert_eq!(wide.part(&rules(5 * MIB, 1, true), 0), (8 * MIB, Cutting::Anywhere));
        // A small one is a part of the least size, and one more being filled.
        let narrow = Limits::within(2 * MIB);
        assert_eq!(narrow.part(&rules(5 * MIB, 1, true), 0), (5 * MIB, Cutting::Anywhere));
        assert!(narrow.most(&rules(5 * MIB, 1, true), 0) < 9 * MIB);
    }
}
