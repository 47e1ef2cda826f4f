//! Random search for the hyperparameters, judged on weeks that come after the ones fitted.

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{CHANNELS, Week},
    design::{Curve, Design, Hyperparameters},
    random::Random,
    report::r_squared,
    ridge::{Equation, Unsolvable},
};

/// Range of the Hill curve's steepness: from concave to clearly S-shaped.
const SHAPE: (f64, f64) = (0.5, 3.0);
/// Range of the half-saturation point as a share of the highest activity.
const HALF_AT: (f64, f64) = (0.3, 1.0);
/// Range of the decimal logarithm of the ridge penalty.
const LOG_PENALTY: (f64, f64) = (-4.0, 0.0);
/// Least weeks that a fit may stand on: one whole season.
const LEAST_TRAINING: usize = 52;

/// How a training runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Seed of the search; the same seed gives the same model.
    pub(crate) seed: u64,
    /// Sets of hyperparameters to try, at least 1.
    pub(crate) trials: usize,
    /// Last weeks that neither the search nor the fit may see, at least 4.
    pub(crate) held_out_weeks: usize,
    /// Blocks of as many weeks before those, each predicted from all weeks before it, at least 1.
    pub(crate) validation_blocks: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 2015, trials: 1500, held_out_weeks: 26, validation_blocks: 3 }
    }
}

/// Settings that do not fit the dataset.
#[derive(Debug, thiserror::Error)]
#[error("the settings do not fit the dataset: {0}")]
pub(crate) struct UnusableSettings(String);

impl Settings {
    /// Number of weeks that the final model is fitted to.
    ///
    /// # Errors
    /// When a setting is below its least value, or the dataset is too short for them.
    pub(crate) fn training_weeks(&self, weeks: usize) -> Result<usize, UnusableSettings> {
        for (name, value, least) in [
            ("trials", self.trials, 1),
            ("held_out_weeks", self.held_out_weeks, 4),
            ("validation_blocks", self.validation_blocks, 1),
        ] {
            if value < least {
                return Err(UnusableSettings(format!("{name} is {value} and must be at least {least}")));
            }
        }
        let kept_apart = self.held_out_weeks.saturating_mul(self.validation_blocks.saturating_add(1));
        if kept_apart.saturating_add(LEAST_TRAINING) > weeks {
            let problem =
                format!("{kept_apart} weeks to check on leave fewer than {LEAST_TRAINING} of {weeks} to learn from");
            return Err(UnusableSettings(problem));
        }
        Ok(weeks - self.held_out_weeks)
    }
}

/// One set of hyperparameters and how well it predicts.
pub(crate) struct Trial {
    /// R² over all validation blocks together.
    pub(crate) score: f64,
    /// What was tried.
    pub(crate) chosen: Hyperparameters,
}

/// Tries as many sets as asked for and returns all of them, best first. `progress` gets the trials done and the total.
///
/// # Errors
/// When a value is not finite.
pub(crate) fn search(
    weeks: &[Week],
    training: usize,
    settings: &Settings,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Trial>, Unsolvable> {
    let mut random = Random::new(settings.seed);
    let mut trials = Vec::with_capacity(settings.trials);
    for done in 1..=settings.trials {
        let chosen = draw(&mut random);
        let score = validate(weeks, training, settings, &chosen)?;
        trials.push(Trial { score, chosen });
        progress(done, settings.trials);
    }
    // A stable sort: of equal scores the earlier trial stays first.
    trials.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(trials)
}

/// Draws one set of hyperparameters.
pub(crate) fn draw(random: &mut Random) -> Hyperparameters {
    let curves = std::array::from_fn(|channel| {
        let (low, high) = CHANNELS[channel].decay;
        Curve {
            decay: random.between(low, high),
            shape: random.between(SHAPE.0, SHAPE.1),
            half_at: random.between(HALF_AT.0, HALF_AT.1),
        }
    });
    Hyperparameters { curves, penalty: libm::pow(10.0, random.between(LOG_PENALTY.0, LOG_PENALTY.1)) }
}

fn validate(weeks: &[Week], training: usize, settings: &Settings, chosen: &Hyperparameters) -> Result<f64, Unsolvable> {
    let design = Design::new(&weeks[..training], training, chosen);
    let revenue: Vec<f64> = weeks[..training].iter().map(|week| week.revenue).collect();
    let first = training - settings.validation_blocks * settings.held_out_weeks;
    let mut predicted = Vec::with_capacity(training - first);
    for start in (first..training).step_by(settings.held_out_weeks) {
        let equation = Equation::fit(&design.columns, &revenue[..start], CHANNELS.len(), chosen.penalty)?;
        predicted.extend((start..start + settings.held_out_weeks).map(|week| equation.predict(&design.columns, week)));
    }
    Ok(r_squared(&revenue[first..], &predicted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{SAMPLE, parse};

    #[test]
    fn trials_come_back_best_first_and_progress_counts_each_of_them() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let settings = Settings { trials: 12, ..Settings::default() };
        let mut seen = Vec::new();
        let trials = search(&weeks, 182, &settings, |done, total| seen.push((done, total))).expect("solvable");
        assert_eq!(seen, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
        assert!(trials.is_sorted_by(|a, b| a.score >= b.score));
        assert!(trials[0].score > trials[11].score);
    }

    #[test]
    fn the_search_does_not_see_the_held_out_weeks() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        let mut altered = weeks.clone();
        for week in &mut altered[182..] {
            week.revenue *= 5.0;
        }
        let settings = Settings { trials: 3, ..Settings::default() };
        let scores = |weeks: &[Week]| -> Vec<f64> {
            search(weeks, 182, &settings, |_, _| ()).expect("solvable").iter().map(|trial| trial.score).collect()
        };
        assert_eq!(scores(&weeks), scores(&altered));
    }

    #[test]
    fn settings_that_leave_too_little_to_learn_from_are_refused() {
        let settings = Settings::default();
        assert_eq!(settings.training_weeks(208).expect("fits"), 182);
        assert_eq!(settings.training_weeks(156).expect("fits"), 130);
        let text = settings.training_weeks(155).expect_err("too short").to_string();
        assert!(text.contains("104 weeks to check on leave fewer than 52 of 155"), "{text}");
        let text = Settings { trials: 0, ..settings }.training_weeks(208).expect_err("no trials").to_string();
        assert!(text.contains("trials is 0 and must be at least 1"), "{text}");
    }
}
