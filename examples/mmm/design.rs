//! The columns of the regression: what the weeks look like once carry-over and saturation are chosen.
//!
//! Powers and waves come from `libm` and not from the system: the system's differ in the last digit between
//! processors, and the same training has to give the same digits in every cloud.

use crate::{
    calendar::{HOLIDAYS, WAVES, angle},
    dataset::{CHANNELS, Week, events},
};

/// What the search chooses for a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Curve {
    /// Share of a week's effect that is left a week later.
    pub(crate) decay: f64,
    /// Steepness of the Hill curve; above 1 it is S-shaped.
    pub(crate) shape: f64,
    /// Where half of the effect is reached, as a share of the highest carried-over activity in training.
    pub(crate) half_at: f64,
}

/// What the search chooses for the whole model.
#[derive(Debug, Clone)]
pub(crate) struct Hyperparameters {
    /// One per channel.
    pub(crate) curves: [Curve; CHANNELS.len()],
    /// Ridge penalty on standardised columns.
    pub(crate) penalty: f64,
}

/// The columns of the regression: the channels first, then market, trend, holidays, events and waves.
pub(crate) struct Design {
    /// One value per week each.
    pub(crate) columns: Vec<Vec<f64>>,
    /// Carried-over activity where each channel's curve is at its half.
    pub(crate) half_saturations: Vec<f64>,
}

impl Design {
    /// All weeks as the curves see them. Only the first `training` weeks decide where a curve saturates.
    pub(crate) fn new(weeks: &[Week], training: usize, chosen: &Hyperparameters) -> Self {
        let mut columns = Vec::new();
        let mut half_saturations = Vec::new();
        for (channel, curve) in CHANNELS.iter().zip(&chosen.curves) {
            let carried = adstock(weeks.iter().map(channel.activity), curve.decay);
            let highest = carried[..training].iter().copied().fold(0.0, f64::max);
            // A channel that was never used has no scale; any will do, as its effect is zero.
            let half = if highest > 0.0 { curve.half_at * highest } else { 1.0 };
            columns.push(carried.into_iter().map(|activity| hill(activity, curve.shape, half)).collect());
            half_saturations.push(half);
        }
        columns.extend(controls(weeks));
        Self { columns, half_saturations }
    }
}

fn controls(weeks: &[Week]) -> Vec<Vec<f64>> {
    let mut columns = vec![
        weeks.iter().map(|week| week.competitor_sales).collect(),
        (0..weeks.len()).map(|index| index as f64).collect(),
    ];
    for holiday in HOLIDAYS {
        columns.push(weeks.iter().map(|week| indicator(holiday.falls_into(week.date))).collect());
    }
    for event in events(weeks) {
        columns.push(weeks.iter().map(|week| indicator(week.event.as_ref() == Some(&event))).collect());
    }
    for number in 1..=WAVES {
        columns.push((0..weeks.len()).map(|index| libm::sin(angle(number, index))).collect());
        columns.push((0..weeks.len()).map(|index| libm::cos(angle(number, index))).collect());
    }
    columns
}

fn indicator(present: bool) -> f64 {
    f64::from(u8::from(present))
}

/// Adds to each week what `decay` leaves of the week before.
pub(crate) fn adstock(activity: impl Iterator<Item = f64>, decay: f64) -> Vec<f64> {
    activity
        .scan(0.0, |carried, now| {
            *carried = now + decay * *carried;
            Some(*carried)
        })
        .collect()
}

/// Saturates: 0 without activity, 1/2 at `half`, never above 1.
pub(crate) fn hill(activity: f64, shape: f64, half: f64) -> f64 {
    if activity <= 0.0 { 0.0 } else { 1.0 / (1.0 + libm::pow(half / activity, shape)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adstock_halves_what_is_left_each_week() {
        assert_eq!(adstock([8.0, 0.0, 0.0, 1.0].into_iter(), 0.5), [8.0, 4.0, 2.0, 2.0]);
    }

    #[test]
    fn saturation_is_half_at_its_half_point_and_never_passes_one() {
        assert_eq!(hill(0.0, 2.0, 3.0), 0.0);
        assert_eq!(hill(3.0, 2.0, 3.0), 0.5);
        assert!((hill(6.0, 2.0, 3.0) - 0.8).abs() < 1e-12);
        assert!(hill(1e300, 3.0, 1.0) <= 1.0);
    }
}
