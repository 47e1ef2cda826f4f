//! Decides whether a history of one key could have been made one call at a time.
//!
//! A call whose end is unknown may take effect at any time after it began, also long after it was given up, or never.

use std::collections::HashSet;

/// What a call did, in values that are written once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read(Option<u64>),
    Write(u64),
    Create(u64),
    Swap { from: u64, to: u64 },
    Delete,
}

impl Call {
    fn written(self) -> Option<u64> {
        match self {
            Self::Write(value) | Self::Create(value) | Self::Swap { to: value, .. } => Some(value),
            Self::Read(_) | Self::Delete => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// The precondition did not hold.
    Refused,
    Unknown,
}

/// A call; and for each effect that a repeated call had beyond its first, the same again of unknown end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: usize,
    pub(crate) call: Call,
    pub(crate) end: End,
    pub(crate) began: u64,
    /// What is unknown has no effect after this.
    pub(crate) ended: u64,
}

impl Entry {
    /// The state after the call, if it can end as it did in this one.
    fn after(&self, state: Option<u64>, repeated: &HashSet<u64>) -> Option<Option<u64>> {
        let (holds, next) = match self.call {
            Call::Read(seen) => return (seen == state).then_some(state),
            Call::Write(value) => (true, Some(value)),
            Call::Create(value) => (state.is_none(), Some(value)),
            Call::Swap { from, to } => (state == Some(from), Some(to)),
            Call::Delete => (true, None),
        };
        match self.end {
            End::Done => holds.then_some(next),
            // What was written again may have another version: which of them the call named is not known.
            End::Refused => {
                let vague = matches!(self.call, Call::Swap { from, .. } if repeated.contains(&from));
                (!holds || vague).then_some(state)
            }
            End::Unknown => holds.then_some(next),
        }
    }
}

/// Whether the calls on one key, which starts absent, have an order that explains all of them.
pub(crate) fn is_linearizable(entries: &[Entry]) -> bool {
    assert!(entries.len() <= 128, "a history of one key has at most 128 calls");
    let known = entries.iter().enumerate().filter(|(_, entry)| entry.end != End::Unknown);
    let known: u128 = known.fold(0, |all, (place, _)| all | 1 << place);
    let mut once = HashSet::new();
    let written = entries.iter().filter_map(|entry| entry.call.written());
    let repeated: HashSet<u64> = written.filter(|value| !once.insert(*value)).collect();
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, None)];
    while let Some((placed, state)) = open.pop() {
        if placed & known == known {
            return true;
        }
        if !seen.insert((placed, state)) {
            continue;
        }
        let waiting = |place: &usize| placed & 1 << place == 0;
        let due = (0..entries.len()).filter(waiting).filter(|place| known & 1 << place != 0);
        let horizon = due.map(|place| entries[place].ended).min().unwrap_or(u64::MAX);
        let now =
            (0..entries.len()).filter(|place| !waiting(place)).map(|place| entries[place].began).max().unwrap_or(0);
        let possible = |place: &usize| {
            let entry = &entries[*place];
            // Of equals the first comes first.
            let equal = *place > 0 && entries[place - 1] == *entry && waiting(&(place - 1));
            entry.began <= horizon && entry.ended >= now && !equal
        };
        for place in (0..entries.len()).filter(waiting).filter(possible) {
            if let Some(next) = entries[place].after(state, &repeated) {
                open.push((placed | 1 << place, next));
            }
        }
    }
    false
}

/// What the judge says of histories that are known to be right or wrong.
pub(crate) fn self_test() -> Result<(), libtest_mimic::Failed> {
    let entry = |call, end, began, ended| Entry { key: 0, call, end, began, ended };
    let done = |call, began, ended| entry(call, End::Done, began, ended);
    let came_back = |until: u64, again: Option<Entry>| {
        let seen = [(1, 1, 2), (2, 5, 6), (1, 7, 8)];
        let reads = seen.map(|(value, began, ended)| done(Call::Read(Some(value)), began, ended));
        let writes = [done(Call::Write(1), 0, until), done(Call::Write(2), 3, 4)];
        reads.into_iter().chain(writes).chain(again).collect()
    };
    let cases: [(&str, bool, Vec<Entry>); 11] = [
        ("a read of what was written", true, vec![done(Call::Write(1), 0, 1), done(Call::Read(Some(1)), 2, 3)]),
        ("a stale read", false, vec![done(Call::Write(1), 0, 1), done(Call::Read(None), 2, 3)]),
        ("two winners of a create", false, vec![done(Call::Create(1), 0, 1), done(Call::Create(2), 0, 1)]),
        (
            "a refused create of nothing",
            false,
            vec![entry(Call::Create(1), End::Refused, 0, 1), done(Call::Read(None), 2, 3)],
        ),
        (
            "an unknown write that came late",
            true,
            vec![
                entry(Call::Write(1), End::Unknown, 0, u64::MAX),
                done(Call::Read(None), 2, 3),
                done(Call::Read(Some(1)), 4, 5),
            ],
        ),
        (
            "an unknown write that comes and goes",
            false,
            vec![
                entry(Call::Write(1), End::Unknown, 0, u64::MAX),
                done(Call::Read(Some(1)), 2, 3),
                done(Call::Read(None), 4, 5),
            ],
        ),
        ("a write that was done once and comes back", false, came_back(9, None)),
        ("a write that was done twice", true, came_back(9, Some(entry(Call::Write(1), End::Unknown, 0, 9)))),
        (
            "a write that comes back after its call",
            false,
            came_back(2, Some(entry(Call::Write(1), End::Unknown, 0, 2))),
        ),
        (
            "a lost update",
            false,
            vec![
                done(Call::Write(1), 0, 1),
                done(Call::Swap { from: 1, to: 2 }, 2, 5),
                done(Call::Swap { from: 1, to: 3 }, 3, 4),
            ],
        ),
        (
            "a swap that lost",
            true,
            vec![
                done(Call::Write(1), 0, 1),
                done(Call::Swap { from: 1, to: 2 }, 2, 5),
                entry(Call::Swap { from: 1, to: 3 }, End::Refused, 3, 6),
            ],
        ),
    ];
    for (name, right, entries) in &cases {
        if is_linearizable(entries) != *right {
            return Err(format!("{name} is judged {}", !right).into());
        }
    }
    println!("B, judge: {} known histories", cases.len());
    Ok(())
}
