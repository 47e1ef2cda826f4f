//! What a composed upload consists of so far, and which of it is to be composed next.

use std::collections::BTreeMap;

use super::compose::{Component, MAX_SOURCES};

/// So many at least are composed while parts still travel: fewer would be more calls, more would be ready later.
const RUN: usize = 16;

/// The components in order, each under the number of the first part that is in it.
#[derive(Debug, Default)]
pub(super) struct Components {
    all: BTreeMap<usize, Option<(u32, Component)>>,
    parts: usize,
}

/// Components that follow one another, to be made one.
pub(super) struct Run {
    first: usize,
    /// How often the bytes will have been composed.
    level: u32,
    pub(super) components: Vec<Component>,
}

impl Components {
    /// Makes room for the next part, and says its number.
    pub(super) fn expect(&mut self) -> usize {
        self.all.insert(self.parts, None);
        self.parts += 1;
        self.parts - 1
    }

    /// A part is there.
    pub(super) fn arrived(&mut self, number: usize, component: Component) {
        self.all.insert(number, Some((0, component)));
    }

    /// A run is one object now.
    pub(super) fn joined(&mut self, run: &Run, component: Component) {
        self.all.insert(run.first, Some((run.level, component)));
    }

    /// Whether every part is there.
    pub(super) fn whole(&self) -> Option<Vec<Component>> {
        self.all.values().map(|there| there.as_ref().map(|(_, component)| component.clone())).collect()
    }

    /// What should be made one now, because the last call takes no more than 32: components that have been composed
    /// equally often, so that no byte is composed more often than the logarithm of the number of parts. They are taken
    /// out, and their place is kept.
    pub(super) fn run(&mut self) -> Option<Run> {
        let mut best: Option<(u32, Vec<usize>)> = None;
        let mut run = (0, Vec::new());
        for (number, there) in self.all.iter().filter(|_| self.all.len() > MAX_SOURCES) {
            let level = there.as_ref().map(|(level, _)| *level);
            if level != Some(run.0) || run.1.len() == MAX_SOURCES {
                run = (level.unwrap_or(0), Vec::new());
            }
            if level.is_some() {
                run.1.push(*number);
            }
            if run.1.len() >= RUN && best.as_ref().is_none_or(|(level, run_of)| run.0 < *level || run_of[0] == run.1[0])
            {
                best = Some(run.clone());
            }
        }
        let (level, numbers) = best?;
        Some(self.take(numbers, level + 1))
    }

    /// The same at the end, when everything is there and must fit in the last call: the latest ones, which have been
    /// composed least often.
    pub(super) fn surplus(&mut self) -> Option<Run> {
        let surplus = self.all.len().checked_sub(MAX_SOURCES).filter(|surplus| *surplus > 0)?;
        let mut numbers: Vec<_> = self.all.keys().rev().take(MAX_SOURCES.min(surplus + 1)).copied().collect();
        numbers.reverse();
        Some(self.take(numbers, 0))
    }

    fn take(&mut self, numbers: Vec<usize>, level: u32) -> Run {
        let first = numbers.first().copied().unwrap_or_default();
        let components = numbers
            .iter()
            .filter_map(|number| self.all.remove(number).flatten())
            .map(|(_, component)| component)
            .collect();
        self.all.insert(first, None);
        Run { first, level, components }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;
    use crate::object_store::Crc32c;

    fn component(bytes: u64) -> Component {
        Component { key: ObjectKey::new("k").unwrap(), generation: 1, crc: Crc32c(0), bytes }
    }

    /// Sends so many parts, so many at a time, and says how often was composed before and after the end of the sending,
    /// the last time included.
    fn compose(parts: usize, at_once: usize) -> (usize, usize) {
        let mut components = Components::default();
        let (mut calls, mut under_way) = ((0, 1), std::collections::VecDeque::new());
        for part in 0..parts + at_once {
            if part < parts {
                under_way.push_back(components.expect());
            }
            if part >= at_once
                && let Some(number) = under_way.pop_front()
            {
                components.arrived(number, component(1));
            }
            while let Some(run) = components.run() {
                assert!((RUN..=MAX_SOURCES).contains(&run.components.len()));
                calls.0 += 1;
                components.joined(&run, component(run.components.iter().map(|component| component.bytes).sum()));
            }
        }
        while let Some(run) = components.surplus() {
            assert!((2..=MAX_SOURCES).contains(&run.components.len()));
            calls.1 += 1;
            components.joined(&run, component(run.components.iter().map(|component| component.bytes).sum()));
        }
        let whole = components.whole().unwrap();
        assert!(whole.len() <= MAX_SOURCES, "{parts}, {at_once}");
        assert_eq!(whole.iter().map(|component| component.bytes).sum::<u64>(), parts as u64);
        calls
    }

    #[test]
    fn few_parts_are_composed_once() {
        for parts in [1, 2, 31, 32] {
            assert_eq!(compose(parts, 24), (0, 1), "{parts}");
        }
    }

    #[test]
    fn many_are_composed_while_others_travel_so_that_little_is_left_for_the_end() {
        for (parts, at_once) in [(33, 8), (96, 24), (1_000, 24), (10_000, 24), (100_000, 24), (500, 1)] {
            let (before, after) = compose(parts, at_once);
            assert!(after <= 2, "{parts}, {at_once}: {after}");
            assert!(before <= parts / (RUN - 1), "{parts}, {at_once}: {before}");
        }
        assert!(compose(5_000, 200).1 <= 9);
    }

    #[test]
    fn what_has_not_arrived_stays_out() {
        let mut components = Components::default();
        let numbers: Vec<_> = (0..40).map(|_| components.expect()).collect();
        numbers.iter().filter(|number| **number % 10 != 5).for_each(|number| components.arrived(*number, component(1)));
        assert!(components.run().is_none() && components.whole().is_none());
        components.arrived(15, component(1));
        let run = components.run().unwrap();
        assert_eq!((run.first, run.components.len()), (6, 19));
        assert!(components.run().is_none() && components.whole().is_none(), "its place is kept");
    }
}
