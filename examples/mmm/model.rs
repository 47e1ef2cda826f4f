//! The model: revenue is a base plus what each channel adds.
//!
//! A channel's activity is carried over into later weeks (geometric adstock), then saturates (Hill curve), then is
//! multiplied by a coefficient that cannot be negative. The base is a constant with a linear trend, two yearly waves,
//! two holidays, the sales of the competitors as a stand-in for the demand of the market, and one effect per event.

use serde::{Deserialize, Serialize};

use crate::{
    calendar::{HOLIDAYS, angle},
    dataset::{CHANNELS, Week, events},
    design::{Design, Hyperparameters, adstock, hill},
    ridge::{Equation, Unsolvable},
};

/// Several models of the same data whose mean is the answer: many sets of hyperparameters fit nearly as well as the
/// best one, and the best one alone would give all of a channel's credit to one that moves alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ensemble {
    /// At least one, the best first.
    pub(crate) models: Vec<Model>,
}

/// One trained model, complete enough to be applied to other weeks.
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
    /// Revenue of each holiday's week.
    pub(crate) holidays: Vec<EventEffect>,
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

/// Revenue of an event or a holiday.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventEffect {
    /// Its name.
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
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// Constant and trend.
    pub(crate) level: f64,
    /// Demand of the market.
    pub(crate) market: f64,
    /// The yearly waves and the holidays.
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

    fn add(&mut self, other: &Self, weight: f64) {
        self.level += weight * other.level;
        self.market += weight * other.market;
        self.season += weight * other.season;
        self.events += weight * other.events;
        for (sum, channel) in self.channels.iter_mut().zip(other.channels) {
            *sum += weight * channel;
        }
    }

    /// The revenue that the model expects.
    pub(crate) fn fitted(&self) -> f64 {
        self.base() + self.channels.iter().sum::<f64>()
    }
}

impl Ensemble {
    /// Splits each week's expected revenue into its causes: the mean of what the models say.
    pub(crate) fn decompose(&self, weeks: &[Week]) -> Vec<Parts> {
        let mut mean = vec![Parts::default(); weeks.len()];
        for model in &self.models {
            for (sum, parts) in mean.iter_mut().zip(model.decompose(weeks)) {
                sum.add(&parts, 1.0 / self.models.len() as f64);
            }
        }
        mean
    }
}

impl Model {
    /// Fits the coefficients to the first `training` weeks.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn fit(weeks: &[Week], training: usize, chosen: &Hyperparameters) -> Result<Self, Unsolvable> {
        let design = Design::new(weeks, training, chosen);
        let revenue: Vec<f64> = weeks[..training].iter().map(|week| week.revenue).collect();
        let Equation { intercept, coefficients } =
            Equation::fit(&design.columns, &revenue, CHANNELS.len(), chosen.penalty)?;
        let (ceilings, controls) = coefficients.split_at(CHANNELS.len());
        let names = events(weeks);
        let (market_and_trend, yearly) = controls.split_at(2);
        let (holidays, others) = yearly.split_at(HOLIDAYS.len());
        let (effects, waves) = others.split_at(names.len());
        let curves = CHANNELS.iter().zip(&chosen.curves).zip(design.half_saturations).zip(ceilings);
        Ok(Self {
            first_week: weeks.first().map(|week| week.date.to_string()).unwrap_or_default(),
            channels: curves
                .map(|(((channel, curve), half_saturation), ceiling)| ChannelCurve {
                    channel: channel.name.to_owned(),
                    decay: curve.decay,
                    shape: curve.shape,
                    half_saturation,
                    ceiling: *ceiling,
                })
                .collect(),
            constant: intercept,
            trend: market_and_trend[1],
            market: market_and_trend[0],
            holidays: effects_of(HOLIDAYS.map(|holiday| holiday.name().to_owned()), holidays),
            events: effects_of(names, effects),
            waves: waves.chunks_exact(2).map(|pair| Wave { sine: pair[0], cosine: pair[1] }).collect(),
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
            season: self.season(index, week),
            events: named(&self.events, week.event.as_deref()),
            channels: std::array::from_fn(|channel| channel_effect(channel, index)),
        };
        weeks.iter().enumerate().map(of_week).collect()
    }

    fn season(&self, index: usize, week: &Week) -> f64 {
        let waves: f64 = (1..).zip(&self.waves).map(|(number, wave)| wave.at(number, index)).sum();
        let holidays = HOLIDAYS.iter().filter(|holiday| holiday.falls_into(week.date));
        waves + holidays.map(|holiday| named(&self.holidays, Some(holiday.name()))).sum::<f64>()
    }
}

fn effects_of(names: impl IntoIterator<Item = String>, effects: &[f64]) -> Vec<EventEffect> {
    names.into_iter().zip(effects).map(|(event, effect)| EventEffect { event, effect: *effect }).collect()
}

/// The effect of that name; none when the model does not know it.
fn named(effects: &[EventEffect], name: Option<&str>) -> f64 {
    effects.iter().find(|known| Some(known.event.as_str()) == name).map_or(0.0, |known| known.effect)
}

impl Wave {
    fn at(&self, number: usize, week: usize) -> f64 {
        let angle = angle(number, week);
        self.sine * libm::sin(angle) + self.cosine * libm::cos(angle)
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
    fn channels_and_base_add_up_to_the_regression() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let chosen = draw(&mut Random::new(5));
        let design = Design::new(&weeks, 150, &chosen);
        let revenue: Vec<f64> = weeks[..150].iter().map(|week| week.revenue).collect();
        let equation = Equation::fit(&design.columns, &revenue, CHANNELS.len(), chosen.penalty).expect("solvable");
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
            serde_json::to_string(&Model::fit(weeks, 182, &chosen).expect("solvable")).expect("writes")
        };
        assert_eq!(text(&weeks), text(&altered));
    }
}
