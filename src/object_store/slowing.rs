/// How many parts may travel at the same time: as many as there is memory for, until one is refused or lost. Then half
/// as many, and one more for every round of parts that the provider takes without another setback.
#[derive(Debug)]
pub(super) struct Slowing {
    now: usize,
    most: usize,
    /// The setbacks that have been heeded.
    heeded: u64,
    /// How many parts were taken since.
    calm: usize,
    /// Whether a setback may still be one of what was sent before the last slowing.
    settling: bool,
}

impl Slowing {
    pub(super) fn new(most: usize) -> Self {
        Self { now: most, most, heeded: 0, calm: 0, settling: false }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// There were so many setbacks in all, and so many parts travel.
    pub(super) fn heed(&mut self, setbacks: u64, travelling: usize) {
        if setbacks <= self.heeded {
            return;
        }
        self.heeded = setbacks;
        self.calm = 0;
        if !self.settling {
            self.now = (self.now.min(travelling) / 2).max(1);
            self.settling = true;
        }
    }

    /// A part was taken.
    pub(super) fn taken(&mut self) {
        self.calm += 1;
        if self.calm >= self.now {
            self.calm = 0;
            if !std::mem::take(&mut self.settling) {
                self.now = (self.now + 1).min(self.most);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wave_of_setbacks_halves_once_and_a_later_one_again() {
        let mut slowing = Slowing::new(12);
        for setbacks in 1..=7 {
            slowing.heed(setbacks, slowing.now());
        }
        assert_eq!(slowing.now(), 6);
        (0..6).for_each(|_| slowing.taken());
        assert_eq!(slowing.now(), 6, "the first calm round only settles");
        slowing.heed(8, 6);
        assert_eq!(slowing.now(), 3);
        (0..3 + 3 + 4).for_each(|_| slowing.taken());
        assert_eq!(slowing.now(), 5);
        (0..1000).for_each(|_| slowing.taken());
        assert_eq!(slowing.now(), 12);
    }

    #[test]
    fn one_part_always_travels() {
        let mut slowing = Slowing::new(2);
        for setbacks in 1..50 {
            slowing.heed(setbacks, slowing.now());
            slowing.taken();
            assert!(slowing.now() >= 1);
        }
    }
}
