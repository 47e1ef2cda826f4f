//! The model: revenue is a base plus what each channel adds.
//!
//! A channel's activity is carried over into later weeks (geometric adstock), then saturates (Hill curve), then is
//! multiplied by a coefficient that cannot be negative. The base is a constant with a linear trend, two yearly waves,
//! the sales of the competitors as a stand-in for the demand of the market, and one effect per event.
//!
//! Powers and waves come from `libm` and not from the system: the system's differ in the last digit between
//! processors, and the same training has to give the same digits in every cloud.

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{CHANNELS, Week, events},
    ridge::{Equation, Unsolvable},
};

/// Number of yearly waves: one and two periods a year.
const WAVES: usize = 2;
/// Length of a year.
const YEAR_IN_WEEKS: f64 = 365.25 / 7.0;

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

/// A trained model, complete enough to be applied to other weeks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Model {
    /// Week that the trend and the waves count from.
    pub(crate) first_week: String,
    /// One per channel, in the order of the channels.
    pub(crate) channels: Vec<ChannelCurve>,
    /// Revenue in the first week without anything else.
    pub(crate) constant: f64,
    /// Change of the revenue per week.
    pub(crate) trend: f64,
    /// Revenue per unit of the competitors' sales.
    pub(crate) market: f64,
    /// Revenue of each event's week.
    pub(crate) events: Vec<EventEffect>,
    /// The yearly waves, longest first.
    pub(crate) waves: Vec<Wave>,
    /// Ridge penalty it was trained with.
    pub(crate) penalty: f64,
}

/// How a channel's activity becomes revenue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChannelCurve {
    /// Name of the channel.
    pub(crate) channel: String,
    /// Share of a week's effect that is left a week later.
    pub(crate) decay: f64,
    /// Steepness of the Hill curve.
    pub(crate) shape: f64,
    /// Carried-over activity that has half of the greatest effect.
    pub(crate) half_saturation: f64,
    /// The greatest effect, in revenue per week.
    pub(crate) ceiling: f64,
}

/// Revenue of an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventEffect {
    /// Name of the event.
    pub(crate) event: String,
    /// Revenue in its week.
    pub(crate) effect: f64,
}

/// One wave of the yearly season.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wave {
    /// Height of the sine.
    pub(crate) sine: f64,
    /// Height of the cosine.
    pub(crate) cosine: f64,
}

/// What the model gives to each cause of a week's revenue.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Constant and trend.
    pub(crate) level: f64,
    /// Demand of the market.
    pub(crate) market: f64,
    /// The yearly waves.
    pub(crate) season: f64,
    /// The event of the week.
    pub(crate) events: f64,
    /// In the order of the channels.
    pub(crate) channels: [f64; CHANNELS.len()],
}

impl Parts {
    /// Everything that is not a channel.
    pub(crate) fn base(&self) -> f64 {
        self.level + self.market + self.season + self.events
    }

    /// The revenue that the model expects.
    pub(crate) fn fitted(&self) -> f64 {
        self.base() + self.channels.iter().sum::<f64>()
    }
}

/// The columns of the regression: the channels first, then market, trend, events and waves.
pub(crate) struct Design {
    pub(crate) columns: Vec<Vec<f64>>,
    half_saturations: Vec<f64>,
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
            let half = if highest > 0.0 {
                curve.half_at * highest
            } else {
                1.0
            };
            columns.push(
                carried
                    .into_iter()
                    .map(|activity| hill(activity, curve.shape, half))
                    .collect(),
            );
            half_saturations.push(half);
        }
        columns.extend(controls(weeks));
        Self {
            columns,
            half_saturations,
        }
    }
}

impl Model {
    /// Fits the coefficients to the first `training` weeks.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn fit(
        weeks: &[Week],
        training: usize,
        chosen: &Hyperparameters,
    ) -> Result<Self, Unsolvable> {
        let design = Design::new(weeks, training, chosen);
        let revenue: Vec<f64> = weeks[..training].iter().map(|week| week.revenue).collect();
        let Equation {
            intercept,
            coefficients,
        } = Equation::fit(&design.columns, &revenue, CHANNELS.len(), chosen.penalty)?;
        let (channels, rest) = coefficients.split_at(CHANNELS.len());
        let names = events(weeks);
        let (effects, waves) = rest[2..].split_at(names.len());
        let curves = CHANNELS
            .iter()
            .zip(&chosen.curves)
            .zip(design.half_saturations)
            .zip(channels);
        Ok(Self {
            first_week: weeks
                .first()
                .map(|week| week.date.to_string())
                .unwrap_or_default(),
            channels: curves
                .map(
                    |(((channel, curve), half_saturation), ceiling)| ChannelCurve {
                        channel: channel.name.to_owned(),
                        decay: curve.decay,
                        shape: curve.shape,
                        half_saturation,
                        ceiling: *ceiling,
                    },
                )
                .collect(),
            constant: intercept,
            trend: rest[1],
            market: rest[0],
            events: names
                .into_iter()
                .zip(effects)
                .map(|(event, effect)| EventEffect {
                    event,
                    effect: *effect,
                })
                .collect(),
            waves: waves
                .chunks_exact(2)
                .map(|pair| Wave {
                    sine: pair[0],
                    cosine: pair[1],
                })
                .collect(),
            penalty: chosen.penalty,
        })
    }

    /// Splits each week's expected revenue into its causes. `weeks` start at the model's first week.
    pub(crate) fn decompose(&self, weeks: &[Week]) -> Vec<Parts> {
        let carried: Vec<Vec<f64>> = CHANNELS
            .iter()
            .zip(&self.channels)
            .map(|(channel, curve)| adstock(weeks.iter().map(channel.activity), curve.decay))
            .collect();
        let channel_effect = |channel: usize, week: usize| {
            let curve = &self.channels[channel];
            curve.ceiling * hill(carried[channel][week], curve.shape, curve.half_saturation)
        };
        let of_week = |(index, week): (usize, &Week)| Parts {
            level: self.constant + self.trend * index as f64,
            market: self.market * week.competitor_sales,
            season: (1..)
                .zip(&self.waves)
                .map(|(number, wave)| wave.at(number, index))
                .sum(),
            events: self
                .events
                .iter()
                .filter(|known| Some(&known.event) == week.event.as_ref())
                .map(|known| known.effect)
                .sum(),
            channels: std::array::from_fn(|channel| channel_effect(channel, index)),
        };
        weeks.iter().enumerate().map(of_week).collect()
    }
}

impl Wave {
    fn at(&self, number: usize, week: usize) -> f64 {
        let angle = angle(number, week);
        self.sine * libm::sin(angle) + self.cosine * libm::cos(angle)
    }
}

fn controls(weeks: &[Week]) -> Vec<Vec<f64>> {
    let mut columns = vec![
        weeks.iter().map(|week| week.competitor_sales).collect(),
        (0..weeks.len()).map(|index| index as f64).collect(),
    ];
    for event in events(weeks) {
        columns.push(
            weeks
                .iter()
                .map(|week| f64::from(u8::from(week.event.as_ref() == Some(&event))))
                .collect(),
        );
    }
    for number in 1..=WAVES {
        columns.push(
            (0..weeks.len())
                .map(|index| libm::sin(angle(number, index)))
                .collect(),
        );
        columns.push(
            (0..weeks.len())
                .map(|index| libm::cos(angle(number, index)))
                .collect(),
        );
    }
    columns
}

fn angle(wave: usize, week: usize) -> f64 {
    std::f64::consts::TAU * wave as f64 * week as f64 / YEAR_IN_WEEKS
}

/// Adds to each week what `decay` leaves of the week before.
fn adstock(activity: impl Iterator<Item = f64>, decay: f64) -> Vec<f64> {
    activity
        .scan(0.0, |carried, now| {
            *carried = now + decay * *carried;
            Some(*carried)
        })
        .collect()
}

/// Saturates: 0 without activity, 1/2 at `half`, never above 1.
fn hill(activity: f64, shape: f64, half: f64) -> f64 {
    if activity <= 0.0 {
        0.0
    } else {
        1.0 / (1.0 + libm::pow(half / activity, shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dataset::{SAMPLE, parse},
        random::Random,
        search::draw,
    };

    #[test]
    fn adstock_halves_what_is_left_each_week() {
        assert_eq!(
            adstock([8.0, 0.0, 0.0, 1.0].into_iter(), 0.5),
            [8.0, 4.0, 2.0, 2.0]
        );
    }

    #[test]
    fn saturation_is_half_at_its_half_point_and_never_passes_one() {
        assert_eq!(hill(0.0, 2.0, 3.0), 0.0);
        assert_eq!(hill(3.0, 2.0, 3.0), 0.5);
        assert!((hill(6.0, 2.0, 3.0) - 0.8).abs() < 1e-12);
        assert!(hill(1e300, 3.0, 1.0) <= 1.0);
    }

    #[test]
    fn channels_and_base_add_up_to_the_regression() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let chosen = draw(&mut Random::new(5));
        let design = Design::new(&weeks, 150, &chosen);
        let revenue: Vec<f64> = weeks[..150].iter().map(|week| week.revenue).collect();
        let equation = Equation::fit(&design.columns, &revenue, CHANNELS.len(), chosen.penalty)
            .expect("solvable");
        let model = Model::fit(&weeks, 150, &chosen).expect("solvable");
        for (index, parts) in model.decompose(&weeks).iter().enumerate() {
            let predicted = equation.predict(&design.columns, index);
            assert!(
                (parts.fitted() / predicted - 1.0).abs() < 1e-9,
                "week {index}: {} and {predicted}",
                parts.fitted()
            );
        }
    }

    #[test]
    fn a_model_read_back_from_json_gives_the_same_revenue() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let model = Model::fit(&weeks, 182, &draw(&mut Random::new(6))).expect("solvable");
        let text = serde_json::to_string(&model).expect("writes");
        let again: Model = serde_json::from_str(&text).expect("reads");
        for (before, after) in model.decompose(&weeks).iter().zip(again.decompose(&weeks)) {
            assert!((before.fitted() / after.fitted() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn weeks_after_training_do_not_change_the_model() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let chosen = draw(&mut Random::new(7));
        let mut altered = weeks.clone();
        for week in &mut altered[182..] {
            week.revenue *= 3.0;
            week.competitor_sales = 1.0;
        }
        let text = |weeks: &[Week]| {
            serde_json::to_string(&Model::fit(weeks, 182, &chosen).expect("solvable"))
                .expect("writes")
        };
        assert_eq!(text(&weeks), text(&altered));
    }
}
